-- Reads the entries of a partition's alarm log after an id, oldest first, with what is needed to notice that others are gone.
-- KEYS alarm log, partition
-- ARGV the id ('' for the beginning), the most entries
-- Answer: {entries, id of the first entry of the log, id of the last, number of entries, epoch}. Missing ids and epochs are false.
local log_key, partition_key = unpack(KEYS)
local after, count = unpack(ARGV)

local function id_of(found) return found[1] and found[1][1] or false end

local from = after == '' and '-' or '(' .. after
local entries = redis.call('XRANGE', log_key, from, '+', 'COUNT', count)
local first = id_of(redis.call('XRANGE', log_key, '-', '+', 'COUNT', 1))
local last = id_of(redis.call('XREVRANGE', log_key, '+', '-', 'COUNT', 1))
return {entries, first, last, redis.call('XLEN', log_key), redis.call('HGET', partition_key, 'epoch')}
