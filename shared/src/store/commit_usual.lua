-- Commits what nearly every message is: one event of a stored device, without a change of an alarm and without an entry in the log.
-- commit.lua does the same for every decision, and says what each write means. This script takes fewer arguments and checks less. It
-- answers {'other'} wherever it is not sure that all its writes succeed: commit.lua then decides what happens. Every byte of an
-- argument costs, because Lua hashes it.
--
-- KEYS   as named in the next line. Without a deadline there is no deadlines_key.
local device_key, partition_key, seen_key, events_key, history_key, channel, deadlines_key = unpack(KEYS, 1, 7)
-- ARGV   as named in the next lines. '' means: none.
--   event_id    the id of the entry in the events stream
--   event_diff  what the events stream gets instead of the envelope
--   deadline    a time in ms at which the device must be looked at, at the latest. Most commits have none
--   trim        '' for most commits, else `EVENTS SAMPLES AGE`, to which the events stream and the history are trimmed. AGE is in ms.
--               SAMPLES and AGE are '-' if the history is not trimmed
-- Then the values of `rev seq order prints latest memory raw` for the hash. If others change, pairs of field and value instead.
local device_id, started_rev, started_epoch, event_id, envelope, event_diff, sample, deadline, trim = unpack(ARGV, 1, 9)
local first_value = 10
local last_value = 16
-- Answer: the server time in ms, {'changed'} if the state is not the one the decision started from, or {'other'}.

local other = {'other'}
local pcall = redis.pcall
local stored = pcall('HMGET', device_key, 'rev', 'seq')
local epoch = pcall('HGET', partition_key, 'epoch')
if stored.err or type(epoch) == 'table' then return other end
if (stored[1] or '') .. ' ' .. (stored[2] or '') ~= started_rev or epoch ~= started_epoch then return {'changed'} end

-- Rights that the first writes do not show.
local may = redis.acl_check_cmd
if not (may('HSET', device_key, '', '') and may('SPUBLISH', channel, '')) then return other end
local max_events, max_samples, max_age
if trim ~= '' then
  max_events, max_samples, max_age = string.match(trim, '^(%S+) (%S+) (%S+)$')
  if max_samples == '-' then max_samples, max_age = nil, nil end
  if max_samples and not may('XTRIM', history_key, 'MINID', 0) then return other end
end

-- The sample is the first write: it shows the type of its key, and its id is the server time. It is removed if a later one fails; then
-- an empty stream may stay.
local now, sample_id
if sample == '' then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
else
  if not may('XDEL', history_key, '0') then return other end
  sample_id = pcall('XADD', history_key, '*', 's', sample)
  if type(sample_id) == 'table' then return other end
  now = tonumber(string.match(sample_id, '^%d+'))
end
local function give_up()
  if sample_id then redis.call('XDEL', history_key, sample_id) end
  return other
end

-- Two writes that are harmless without the others: they say that something was heard of the device, which is so (whether it is shown
-- as current also depends on the time of its reading), and that a timer must look at it.
local heard = pcall('ZADD', seen_key, 'XX', 'GT', 'CH', now, device_id)
if type(heard) == 'table' then return give_up() end
-- Either it was heard of in this millisecond, or it is missing in the list. The other script lists it.
if heard == 0 and type(pcall('ZSCORE', seen_key, device_id)) ~= 'string' then return give_up() end
if deadline ~= '' then
  -- A timer that looks at the device too early finds the right time.
  if type(pcall('ZADD', deadlines_key, 'LT', deadline, device_id)) == 'table' then return give_up() end
end
-- It fails if the stream is ahead of the state, too. Redis removes whole nodes: a few more entries may stay.
local field, value = 'event', envelope
if event_diff ~= '' then field, value = 'diff', event_diff end
local added
if max_events then
  added = pcall('XADD', events_key, 'MAXLEN', '~', max_events, event_id, 'epoch', started_epoch, field, value)
else
  added = pcall('XADD', events_key, event_id, 'epoch', started_epoch, field, value)
end
if type(added) == 'table' then return give_up() end

if #ARGV == last_value then
  local rev, seq, order, prints, latest, memory, raw = unpack(ARGV, first_value)
  redis.call('HSET', device_key, 'rev', rev, 'seq', seq, 'order', order, 'prints', prints, 'latest', latest, 'memory', memory, 'raw', raw)
else
  redis.call('HSET', device_key, unpack(ARGV, first_value))
end
if max_samples then
  redis.call('XTRIM', history_key, 'MAXLEN', '~', max_samples)
  redis.call('XTRIM', history_key, 'MINID', '~', math.max(now - max_age, 0))
end
redis.call('SPUBLISH', channel, envelope)
return now
