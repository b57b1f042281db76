-- The one writer of device state: compare rev and epoch, then write state, streams, log and indexes, and publish.
-- KEYS[1..5] as in state.lua, KEYS[6] deadlines   KEYS[7] changed   KEYS[8] log   KEYS[9] history
-- KEYS[10] quarantine   KEYS[11] channel
-- ARGV[1] device id
-- ARGV[2] rev and seq the decision started from, a blank between them   ARGV[3] epoch it started from
-- ARGV[4] seq of the event ('' for none)   ARGV[5] envelope   ARGV[6] changes payload ('' for none)
-- ARGV[7] alarms of the changes
-- ARGV[8] 'now' for a message that proves the device alive, a time in ms (0: to be listed only), '' for neither
-- ARGV[9] deadline in ms, 'keep' or 'never'   ARGV[10] sample ('' for none)
-- ARGV[11] bound of the events stream   ARGV[12] of the changes stream   ARGV[13] of the quarantine
-- ARGV[14] history count   ARGV[15] history age in ms   ARGV[16] log count   ARGV[17] log age in ms ('' for any)
-- ARGV[18] '1' to replace a state that cannot be read
-- ARGV[19] number of hash values that follow (field, value, …), then the log lines
-- Answer: {'ok', server time in ms}, or a changed state as state.lua answers it, or {'refused', reason}.
-- A failed script is not undone: whatever can fail is checked before the first write.

local now = redis.call('TIME')
now = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)

local newer = moved(ARGV[2], ARGV[3], ARGV[4])
if newer then return newer end
local number = (tonumber(redis.call('HGET', KEYS[2], 'events')) or 0) + 1

local expected = {[3] = 'zset', [4] = 'stream', [5] = 'stream', [6] = 'zset', [7] = 'zset', [8] = 'stream', [9] = 'stream', [10] = 'stream'}
for index, kind in pairs(expected) do
  local found = redis.call('TYPE', KEYS[index]).ok
  if found ~= 'none' and found ~= kind then
    return {'refused', KEYS[index] .. ': is a ' .. found .. ', not a ' .. kind}
  end
end

local seq = ARGV[4]
if seq ~= '' then
  -- Where a stream is ahead of the state, the decision is made again with a seq above both.
  if ARGV[6] ~= '' and last_seq(KEYS[5]) >= tonumber(seq) then return load(true) end
  -- The first write of all: where it is refused, nothing has been written.
  local added = redis.pcall('XADD', KEYS[4], 'MAXLEN', ARGV[11], seq .. '-0', 'epoch', ARGV[3], 'event', ARGV[5])
  if type(added) == 'table' then
    if last_seq(KEYS[4]) >= tonumber(seq) then return load(true) end
    return {'refused', KEYS[4] .. ': ' .. added.err}
  end
  if ARGV[6] ~= '' then
    redis.call('XADD', KEYS[5], 'MAXLEN', ARGV[12], seq .. '-0', 'epoch', ARGV[3], 'payload', ARGV[6], 'alarms', ARGV[7])
  end
end

if ARGV[18] == '1' then
  local names = {'rev', 'epoch', 'seq', 'alarms', 'order', 'prints', 'latest', 'memory', 'raw'}
  local old = redis.call('HMGET', KEYS[1], unpack(names))
  local kept = {'device', ARGV[1]}
  for index, name in ipairs(names) do
    if old[index] then
      kept[#kept + 1] = name
      kept[#kept + 1] = old[index]
    end
  end
  redis.call('XADD', KEYS[10], 'MAXLEN', ARGV[13], '*', unpack(kept))
  redis.call('DEL', KEYS[1])
end

local values = tonumber(ARGV[19])
if values > 0 then redis.call('HSET', KEYS[1], unpack(ARGV, 20, 19 + values)) end

if ARGV[8] ~= '' then
  redis.call('ZADD', KEYS[3], 'GT', ARGV[8] == 'now' and now or ARGV[8], ARGV[1])
end

if ARGV[9] == 'never' then
  redis.call('ZREM', KEYS[6], ARGV[1])
elseif ARGV[9] ~= 'keep' then
  redis.call('ZADD', KEYS[6], ARGV[9], ARGV[1])
end

if ARGV[10] ~= '' then
  redis.call('XADD', KEYS[9], 'MAXLEN', '~', ARGV[14], '*', 's', ARGV[10])
  redis.call('XTRIM', KEYS[9], 'MINID', '~', now - tonumber(ARGV[15]))
end

for index = 20 + values, #ARGV do
  redis.call('XADD', KEYS[8], 'MAXLEN', '~', ARGV[16], '*', 'device', ARGV[1], 'line', ARGV[index])
  if ARGV[17] ~= '' then redis.call('XTRIM', KEYS[8], 'MINID', '~', now - tonumber(ARGV[17])) end
end

if seq ~= '' then
  redis.call('HSET', KEYS[2], 'events', number)
  redis.call('ZADD', KEYS[7], number, ARGV[1])
  redis.call('SPUBLISH', KEYS[11], ARGV[5])
end

return {'ok', now}
