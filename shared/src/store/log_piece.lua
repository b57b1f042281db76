-- Reads a piece of a partition's alarm log, with what is needed to notice that entries are gone.
-- KEYS alarm log, partition
-- ARGV 'newer' or 'older', the id to read on from ('' for an end of the log), the most entries
-- Answer: {entries in the order of reading, id of the first entry of the log, id of the last, number of entries, epoch}. Missing ids
-- and epochs are false.
local log_key, partition_key = unpack(KEYS)
local direction, from, count = unpack(ARGV)

local function id_of(found) return found[1] and found[1][1] or false end

local entries
if direction == 'newer' then
  entries = redis.call('XRANGE', log_key, from == '' and '-' or '(' .. from, '+', 'COUNT', count)
else
  entries = redis.call('XREVRANGE', log_key, from == '' and '+' or '(' .. from, '-', 'COUNT', count)
end
local first = id_of(redis.call('XRANGE', log_key, '-', '+', 'COUNT', 1))
local last = id_of(redis.call('XREVRANGE', log_key, '+', '-', 'COUNT', 1))
return {entries, first, last, redis.call('XLEN', log_key), redis.call('HGET', partition_key, 'epoch')}
