-- The one writer of device state: compares rev and epoch, then writes state, streams, log and indexes, and publishes.
--
-- KEYS   those of state.lua, then as named in the next line
local deadlines_key, listings_key, log_key, history_key, channel, quarantine_key = unpack(KEYS, 6, 11)
-- ARGV   as named in the next lines. '' means: none.
--   started_rev       rev and seq the first decision started from, separated by a space
--   alive             'now' for a message that proves the device alive, a time in ms (0 only lists the device)
--   deadline          a time in ms, 'keep' or 'never'
--   is_lost           '1' to replace a state that cannot be read
--   may_grow          '1', or '' for a device that may not keep more events than it has
-- Then lists, each behind its length:
--   events            in order, for each: seq, envelope, what the events stream gets instead of the envelope, its part for the changes
--                     stream, the alarms that belong to that
--   samples           for the history
--   hash values       field, value, ...; the length counts both
--   log entries       up to the end, without a length
local _, started_rev, started_epoch, alive, deadline, max_events, max_changes, max_quarantine = unpack(ARGV, 1, 8)
local history_max, history_age_ms, log_max, log_age_ms, is_lost, may_grow = unpack(ARGV, 9, 14)
local first_event = 16
local event_end = first_event + 5 * tonumber(ARGV[first_event - 1])
local first_sample = event_end + 1
local sample_end = first_sample + tonumber(ARGV[event_end])
local first_field = sample_end + 1
local field_end = first_field + tonumber(ARGV[sample_end])
local max_lost_fields = 1000

local seq = ''
if event_end > first_event then seq = ARGV[first_event] end
local first_change_seq
for index = first_event, event_end - 1, 5 do
  if ARGV[index + 3] ~= '' then
    first_change_seq = ARGV[index]
    break
  end
end
-- Answer: {'ok', server time in ms}, or a changed state or refusal as in state.lua.

local now = time_ms()
-- The time since when entries of at most this age were written. An age may be longer than the time since 1970.
local function oldest(age_ms) return math.max(now - tonumber(age_ms), 0) end
local changed_state = conflict(started_rev, started_epoch, seq)
if changed_state then return changed_state end
local expected = {
  [seen_key] = 'zset', [deadlines_key] = 'zset',
  [events_key] = 'stream', [changes_key] = 'stream', [log_key] = 'stream', [history_key] = 'stream', [quarantine_key] = 'stream',
}
-- A device gets a number when it is listed, and with each event that those who follow all devices would not find by the time of its last
-- message, or must not miss: an alarm change, an event without a live message, the end of a lost state. A usual commit gives none.
local is_listed = read('ZSCORE', seen_key, device_id)
local must_be_found = seq ~= '' and (first_change_seq or alive ~= 'now' or is_lost == '1')
local gets_number = alive ~= '' and not is_listed
if is_listed and must_be_found then
  -- An index that cannot be written must keep no alarm of a known device. It is then found later.
  local kind = redis.call('TYPE', listings_key).ok
  gets_number = kind == 'zset' or kind == 'none'
end
if gets_number then expected[listings_key] = 'zset' end
local refusal = wrong_type(expected)
if refusal then return refusal end
-- A lost state is copied whole into one stream entry, which Lua can do with some thousand arguments.
if is_lost == '1' and redis.call('HLEN', device_key) > max_lost_fields then
  return refused(device_key, 'has more than ' .. max_lost_fields .. ' fields')
end

-- The stored fields, for the quarantine: cut at so many bytes each, and in total.
local function lost_fields()
  local max_value, left = 16384, 65536
  local found, kept = redis.call('HGETALL', device_key), {}
  for index = 1, #found, 2 do
    local name = string.sub(found[index], 1, 256)
    local value = string.sub(found[index + 1], 1, math.min(max_value, math.max(left - #name, 0)))
    left = left - #name - #value
    if left < 0 then break end
    kept[#kept + 1], kept[#kept + 2] = name, value
  end
  return kept
end

-- Every command that this call runs from here on.
if field_end > first_field then need('HSET', device_key, '', '') end
if alive ~= '' then need('ZADD', seen_key, 0, '') end
if gets_number then
  need('HSET', partition_key, '', '')
  need('ZADD', listings_key, 0, '')
end
if deadline == 'never' then
  need('ZREM', deadlines_key, '')
elseif deadline ~= 'keep' then
  need('ZADD', deadlines_key, 0, '')
end
if seq ~= '' then
  need('XADD', events_key, '*', '', '')
  if may_grow == '' then need('XLEN', events_key) end
  if first_change_seq then need('XADD', changes_key, '*', '', '') end
  need('SPUBLISH', channel, '')
end
if is_lost == '1' then
  need('XADD', quarantine_key, '*', '', '')
  need('HGETALL', device_key)
  need('DEL', device_key)
end
if sample_end > first_sample then
  need('XADD', history_key, '*', '', '')
  need('XTRIM', history_key, 'MINID', 0)
end
if #ARGV >= field_end then
  need('XADD', log_key, '*', '', '')
  if log_age_ms ~= '' then need('XTRIM', log_key, 'MINID', 0) end
end

if seq ~= '' then
  -- If a stream is ahead of the state, the decision is made again with a seq above both.
  if first_change_seq and last_seq(changes_key) >= tonumber(first_change_seq) then return load(true) end
  if may_grow == '' then max_events = math.min(max_events, math.max(redis.call('XLEN', events_key), 1)) end
  for index = first_event, event_end - 1, 5 do
    local event_seq, envelope, event_diff, changes_payload, changed_alarms = unpack(ARGV, index, index + 4)
    local field, value = 'event', envelope
    if event_diff ~= '' then field, value = 'diff', event_diff end
    -- The first one is the first write. If it fails, nothing has been written. The ids that follow are higher.
    local added = redis.pcall('XADD', events_key, 'MAXLEN', max_events, event_seq .. '-0', 'epoch', started_epoch, field, value)
    if type(added) == 'table' then
      if index > first_event then error(added) end
      if last_seq(events_key) >= tonumber(seq) then return load(true) end
      return refused(events_key, added.err)
    end
    if changes_payload ~= '' then
      redis.call('XADD', changes_key, 'MAXLEN', max_changes, event_seq .. '-0',
        'epoch', started_epoch, 'payload', changes_payload, 'alarms', changed_alarms)
    end
  end
end

if is_lost == '1' then
  redis.call('XADD', quarantine_key, 'MAXLEN', max_quarantine, '*', 'device', device_id, unpack(lost_fields()))
  -- What operators have said does not depend on what was lost.
  local profile = redis.call('HGET', device_key, 'profile')
  redis.call('DEL', device_key)
  if profile then redis.call('HSET', device_key, 'profile', profile) end
end

if field_end > first_field then redis.call('HSET', device_key, unpack(ARGV, first_field, field_end - 1)) end

if alive ~= '' then
  redis.call('ZADD', seen_key, 'GT', alive == 'now' and now or alive, device_id)
end
if gets_number then
  -- Gateways where somebody waits for the device, or follows all devices, find it by this number.
  local number = (tonumber(redis.call('HGET', partition_key, 'events')) or 0) + 1
  redis.call('HSET', partition_key, 'events', number)
  redis.call('ZADD', listings_key, number, device_id)
end

if deadline == 'never' then
  redis.call('ZREM', deadlines_key, device_id)
elseif deadline ~= 'keep' then
  redis.call('ZADD', deadlines_key, deadline, device_id)
end

for index = first_sample, sample_end - 1 do
  redis.call('XADD', history_key, 'MAXLEN', '~', history_max, '*', 's', ARGV[index])
end
if sample_end > first_sample then
  redis.call('XTRIM', history_key, 'MINID', '~', oldest(history_age_ms))
end

for index = field_end, #ARGV do
  redis.call('XADD', log_key, 'MAXLEN', '~', log_max, '*', 'device', device_id, 'line', ARGV[index])
  if log_age_ms ~= '' then redis.call('XTRIM', log_key, 'MINID', '~', oldest(log_age_ms)) end
end

if seq ~= '' then
  for index = first_event, event_end - 1, 5 do redis.call('SPUBLISH', channel, ARGV[index + 1]) end
end

return {'ok', now}
