-- Commits what nearly every message is: one event of a stored device, without a change of an alarm and without an entry in the log.
-- commit.lua does the same for every decision, and says what each write means. This script takes fewer arguments and checks less. It
-- answers {'other'} wherever it is not sure that all its writes succeed: commit.lua then decides what happens.
--
-- `changed_state` is `load` of state.lua.
-- KEYS   those of state.lua, then as named in the next lines
local device_key, partition_key, seen_key, events_key = unpack(KEYS, 1, 4)
local changed_key, history_key, channel, deadlines_key = unpack(KEYS, 6, 9)
-- ARGV   as named in the next line. '' means: none. Then field, value, ... for the hash.
--   deadline   a time in ms at which the device must be looked at, at the latest. Without it there is no deadlines_key.
--   trim_age   the age of samples in ms, if this is a commit that trims the history
local device_id, started_rev, started_epoch, seq, envelope, max_events, deadline, sample, trim_max, trim_age = unpack(ARGV, 1, 10)
local first_field = 11
-- Answer: the server time in ms, a changed state as in state.lua, or {'other'}.

local other = {'other'}
local stored = redis.pcall('HMGET', device_key, 'rev', 'seq')
local partition = redis.pcall('HMGET', partition_key, 'epoch', 'events')
if stored.err or partition.err then return other end
if (stored[1] or '') .. ' ' .. (stored[2] or '') ~= started_rev or partition[1] ~= started_epoch then return changed_state() end

-- Types and rights that the first two writes do not show.
local may = redis.acl_check_cmd
local function is_type(key, kind)
  local found = redis.call('TYPE', key).ok
  return found == kind or found == 'none'
end
if not (may('HSET', device_key, '', '') and may('HSET', partition_key, '', '') and may('ZADD', seen_key, 0, '') and may('SPUBLISH', channel, '')) then return other end
if not is_type(seen_key, 'zset') then return other end
if sample ~= '' and not (may('XADD', history_key, '*', '', '') and is_type(history_key, 'stream')) then return other end
if trim_age ~= '' and not may('XTRIM', history_key, 'MINID', 0) then return other end
if deadline ~= '' and not (may('ZADD', deadlines_key, 0, '') and is_type(deadlines_key, 'zset')) then return other end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local event_number = (tonumber(partition[2]) or 0) + 1
-- Without the event this says only that the device must be read again, which is harmless.
local numbered = redis.pcall('ZADD', changed_key, event_number, device_id)
if type(numbered) == 'table' then return other end
-- It fails if the stream is ahead of the state, too.
local added = redis.pcall('XADD', events_key, 'MAXLEN', max_events, seq .. '-0', 'epoch', started_epoch, 'event', envelope)
if type(added) == 'table' then return other end

redis.call('HSET', device_key, unpack(ARGV, first_field))
redis.call('ZADD', seen_key, 'GT', now, device_id)
-- A timer that looks at the device too early finds the right time.
if deadline ~= '' then redis.call('ZADD', deadlines_key, 'LT', deadline, device_id) end
if trim_age ~= '' then
  redis.call('XADD', history_key, 'MAXLEN', '~', trim_max, '*', 's', sample)
  redis.call('XTRIM', history_key, 'MINID', '~', now - trim_age)
elseif sample ~= '' then
  redis.call('XADD', history_key, '*', 's', sample)
end
redis.call('HSET', partition_key, 'events', event_number)
redis.call('SPUBLISH', channel, envelope)
return now
