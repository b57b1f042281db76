-- Commits what nearly every message is: one event of a stored device, without a change of an alarm and without an entry in the log.
-- commit.lua does the same for every decision, and says what each write means. This script takes fewer arguments and checks less. It
-- answers {'other'} wherever it is not sure that all its writes succeed: commit.lua then decides what happens. Every byte of an
-- argument costs, because Lua hashes it.
--
-- KEYS   as named in the next line. Without a deadline there is no deadlines_key.
local device_key, partition_key, seen_key, events_key, changed_key, history_key, channel, deadlines_key = unpack(KEYS, 1, 8)
-- ARGV   as named in the next lines. '' means: none.
--   event_id    the id of the entry in the events stream
--   event_diff  what the events stream gets instead of the envelope
--   rare        '' for most commits, else `DEADLINE TRIM_MAX TRIM_AGE`, where '-' means: none. A deadline is a time in ms at which the device
--               must be looked at, at the latest. The others trim the history: its length, and the age of its samples in ms
-- Then the values of `rev seq order prints latest memory raw` for the hash. If others change, pairs of field and value instead.
local device_id, started_rev, started_epoch, event_id, envelope, event_diff, max_events, sample, rare = unpack(ARGV, 1, 9)
local first_value = 10
local last_value = 16
-- Answer: the server time in ms, {'changed'} if the state is not the one the decision started from, or {'other'}.

local other = {'other'}
local pcall = redis.pcall
local stored = pcall('HMGET', device_key, 'rev', 'seq')
local partition = pcall('HMGET', partition_key, 'epoch', 'events')
if stored.err or partition.err then return other end
if (stored[1] or '') .. ' ' .. (stored[2] or '') ~= started_rev or partition[1] ~= started_epoch then return {'changed'} end

-- Types and rights that the first writes do not show. These are harmless without the others: they say that something was heard of the
-- device, which is so (whether it is shown as current also depends on the time of its reading), that it must be read again, and that a
-- timer must look at it. Each shows that it may be done with its key, and the first that the
-- user may run its command.
local may = redis.acl_check_cmd
if not (may('HSET', device_key, '', '') and may('HSET', partition_key, '', '') and may('SPUBLISH', channel, '')) then return other end
if sample ~= '' then
  if not may('XADD', history_key, '*', '', '') then return other end
  local found = redis.call('TYPE', history_key).ok
  if found ~= 'stream' and found ~= 'none' then return other end
end
local deadline, trim_max, trim_age
if rare ~= '' then
  deadline, trim_max, trim_age = string.match(rare, '^(%S+) (%S+) (%S+)$')
  if trim_age ~= '-' and not may('XTRIM', history_key, 'MINID', 0) then return other end
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if type(pcall('ZADD', seen_key, 'GT', now, device_id)) == 'table' then return other end
if deadline and deadline ~= '-' then
  -- A timer that looks at the device too early finds the right time.
  if type(pcall('ZADD', deadlines_key, 'LT', deadline, device_id)) == 'table' then return other end
end
local event_number = (tonumber(partition[2]) or 0) + 1
if type(pcall('ZADD', changed_key, event_number, device_id)) == 'table' then return other end
-- It fails if the stream is ahead of the state, too. Redis removes whole nodes: a few more entries may stay.
local added
if event_diff == '' then
  added = pcall('XADD', events_key, 'MAXLEN', '~', max_events, event_id, 'epoch', started_epoch, 'event', envelope)
else
  added = pcall('XADD', events_key, 'MAXLEN', '~', max_events, event_id, 'epoch', started_epoch, 'diff', event_diff)
end
if type(added) == 'table' then return other end

if #ARGV == last_value then
  local rev, seq, order, prints, latest, memory, raw = unpack(ARGV, first_value)
  redis.call('HSET', device_key, 'rev', rev, 'seq', seq, 'order', order, 'prints', prints, 'latest', latest, 'memory', memory, 'raw', raw)
else
  redis.call('HSET', device_key, unpack(ARGV, first_value))
end
if trim_age and trim_age ~= '-' then
  redis.call('XADD', history_key, 'MAXLEN', '~', trim_max, '*', 's', sample)
  redis.call('XTRIM', history_key, 'MINID', '~', now - trim_age)
elseif sample ~= '' then
  redis.call('XADD', history_key, '*', 's', sample)
end
redis.call('HSET', partition_key, 'events', event_number)
redis.call('SPUBLISH', channel, envelope)
return now
