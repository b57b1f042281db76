-- Retires a device: compares as commit.lua does, then writes the log, publishes, and deletes everything stored of the device.
--
-- KEYS   those of state.lua, then as named in the next line, then the rollups of the device
local deadlines_key, listings_key, log_key, history_key, channel = unpack(KEYS, 6, 10)
-- ARGV   as named in the next line; the log entries come after them
local _, started_rev, started_epoch, seq, envelope, log_max = unpack(ARGV, 1, 6)
local first_entry = 7
local first_rollup = 11
-- Answer: as commit.lua.

local now = time_ms()
local changed_state = conflict(started_rev, started_epoch, seq)
if changed_state then return changed_state end
-- The other keys are only deleted, so their types do not matter.
local refusal = wrong_type({
  [seen_key] = 'zset', [deadlines_key] = 'zset', [listings_key] = 'zset', [log_key] = 'stream',
})
if refusal then return refusal end
-- If a stream is ahead of the state, the decision is made again with a seq above both.
if math.max(last_seq(events_key), last_seq(changes_key)) >= tonumber(seq) then return load(true) end

need('XADD', log_key, '*', '', '')
need('SPUBLISH', channel, '')
need('HSET', partition_key, '', '')
need('UNLINK', device_key, events_key, changes_key, history_key, unpack(KEYS, first_rollup))
for _, index in ipairs({seen_key, deadlines_key, listings_key}) do need('ZREM', index, '') end

for index = first_entry, #ARGV do
  redis.call('XADD', log_key, 'MAXLEN', '~', log_max, '*', 'device', device_id, 'line', ARGV[index])
end
redis.call('SPUBLISH', channel, envelope)
if tonumber(seq) > retired_seq() then redis.call('HSET', partition_key, 'retired', seq) end

redis.call('UNLINK', device_key, events_key, changes_key, history_key, unpack(KEYS, first_rollup))
redis.call('ZREM', seen_key, device_id)
redis.call('ZREM', deadlines_key, device_id)
redis.call('ZREM', listings_key, device_id)

return {'ok', now}
