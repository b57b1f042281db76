-- The one writer of device state: compares rev and epoch, then writes state, streams, log and indexes, and publishes.
--
-- KEYS   those of state.lua, then as named in the next line
local deadlines_key, changed_key, log_key, history_key, channel, quarantine_key = unpack(KEYS, 6, 11)
-- ARGV   as named in the next lines. '' means: none.
--   started_rev       rev and seq the decision started from, separated by a space
--   seq, envelope     the event; changes_payload is its part for the changes stream, changed_alarms belong to that
--   alive             'now' for a message that proves the device alive, a time in ms (0 only lists the device)
--   deadline          a time in ms, 'keep' or 'never'
--   is_lost           '1' to replace a state that cannot be read
--   field_count       number of hash values that follow (field, value, ...); the log entries come after them
local _, started_rev, started_epoch, seq, envelope, changes_payload, changed_alarms, alive, deadline = unpack(ARGV, 1, 9)
local sample, max_events, max_changes, max_quarantine = unpack(ARGV, 10, 13)
local history_max, history_age_ms, log_max, log_age_ms, is_lost, field_count = unpack(ARGV, 14, 19)
local first_field = 20
local max_lost_fields = 1000
-- Answer: {'ok', server time in ms}, or a changed state or refusal as in state.lua.

local now = time_ms()
local changed_state = conflict(started_rev, started_epoch, seq)
if changed_state then return changed_state end
local event_number = (tonumber(redis.call('HGET', partition_key, 'events')) or 0) + 1
local refusal = wrong_type({
  [seen_key] = 'zset', [deadlines_key] = 'zset', [changed_key] = 'zset',
  [events_key] = 'stream', [changes_key] = 'stream', [log_key] = 'stream', [history_key] = 'stream', [quarantine_key] = 'stream',
})
if refusal then return refusal end
-- A lost state is copied whole into one stream entry, which Lua can do with some thousand arguments.
if is_lost == '1' and redis.call('HLEN', device_key) > max_lost_fields then
  return refused(device_key, 'has more than ' .. max_lost_fields .. ' fields')
end

-- Every command that this call runs from here on.
if tonumber(field_count) > 0 then need('HSET', device_key, '', '') end
if alive ~= '' then need('ZADD', seen_key, 0, '') end
if deadline == 'never' then
  need('ZREM', deadlines_key, '')
elseif deadline ~= 'keep' then
  need('ZADD', deadlines_key, 0, '')
end
if seq ~= '' then
  need('XADD', events_key, '*', '', '')
  if changes_payload ~= '' then need('XADD', changes_key, '*', '', '') end
  need('HSET', partition_key, '', '')
  need('ZADD', changed_key, 0, '')
  need('SPUBLISH', channel, '')
end
if is_lost == '1' then
  need('XADD', quarantine_key, '*', '', '')
  need('HGETALL', device_key)
  need('DEL', device_key)
end
if sample ~= '' then
  need('XADD', history_key, '*', '', '')
  need('XTRIM', history_key, 'MINID', 0)
end
if #ARGV >= first_field + tonumber(field_count) then
  need('XADD', log_key, '*', '', '')
  if log_age_ms ~= '' then need('XTRIM', log_key, 'MINID', 0) end
end

if seq ~= '' then
  -- If a stream is ahead of the state, the decision is made again with a seq above both.
  if changes_payload ~= '' and last_seq(changes_key) >= tonumber(seq) then return load(true) end
  -- This is the first write. If it fails, nothing has been written.
  local added = redis.pcall('XADD', events_key, 'MAXLEN', max_events, seq .. '-0', 'epoch', started_epoch, 'event', envelope)
  if type(added) == 'table' then
    if last_seq(events_key) >= tonumber(seq) then return load(true) end
    return refused(events_key, added.err)
  end
  if changes_payload ~= '' then
    redis.call('XADD', changes_key, 'MAXLEN', max_changes, seq .. '-0',
      'epoch', started_epoch, 'payload', changes_payload, 'alarms', changed_alarms)
  end
end

if is_lost == '1' then
  redis.call('XADD', quarantine_key, 'MAXLEN', max_quarantine, '*', 'device', device_id, unpack(redis.call('HGETALL', device_key)))
  redis.call('DEL', device_key)
end

local values = tonumber(field_count)
if values > 0 then redis.call('HSET', device_key, unpack(ARGV, first_field, first_field + values - 1)) end

if alive ~= '' then
  redis.call('ZADD', seen_key, 'GT', alive == 'now' and now or alive, device_id)
end

if deadline == 'never' then
  redis.call('ZREM', deadlines_key, device_id)
elseif deadline ~= 'keep' then
  redis.call('ZADD', deadlines_key, deadline, device_id)
end

if sample ~= '' then
  redis.call('XADD', history_key, 'MAXLEN', '~', history_max, '*', 's', sample)
  redis.call('XTRIM', history_key, 'MINID', '~', now - tonumber(history_age_ms))
end

for index = first_field + values, #ARGV do
  redis.call('XADD', log_key, 'MAXLEN', '~', log_max, '*', 'device', device_id, 'line', ARGV[index])
  if log_age_ms ~= '' then redis.call('XTRIM', log_key, 'MINID', '~', now - tonumber(log_age_ms)) end
end

if seq ~= '' then
  redis.call('HSET', partition_key, 'events', event_number)
  redis.call('ZADD', changed_key, event_number, device_id)
  redis.call('SPUBLISH', channel, envelope)
end

return {'ok', now}
