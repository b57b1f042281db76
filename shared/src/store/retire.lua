-- Ends a device: compare as commit.lua does, then write the log, publish, and delete everything that is stored of it.
-- KEYS[1..5] as in state.lua, KEYS[6] deadlines   KEYS[7] changed   KEYS[8] log   KEYS[9] history   KEYS[10] channel
-- ARGV[1] device id
-- ARGV[2] rev and seq the decision started from, a blank between them   ARGV[3] epoch it started from
-- ARGV[4] seq of the event   ARGV[5] envelope   ARGV[6] log count   ARGV[7..] the log lines
-- Answer: as commit.lua. A failed script is not undone: whatever can fail is checked before the first write.

local now = redis.call('TIME')
now = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)

local newer = moved(ARGV[2], ARGV[3], ARGV[4])
if newer then return newer end

-- What is only deleted may be of any type.
local expected = {[3] = 'zset', [6] = 'zset', [7] = 'zset', [8] = 'stream'}
for index, kind in pairs(expected) do
  local found = redis.call('TYPE', KEYS[index]).ok
  if found ~= 'none' and found ~= kind then
    return {'refused', KEYS[index] .. ': is a ' .. found .. ', not a ' .. kind}
  end
end
-- Where a stream is ahead of the state, the decision is made again with a seq above both.
local seq = tonumber(ARGV[4])
if math.max(last_seq(KEYS[4]), last_seq(KEYS[5])) >= seq then return load(true) end

for index = 7, #ARGV do
  redis.call('XADD', KEYS[8], 'MAXLEN', '~', ARGV[6], '*', 'device', ARGV[1], 'line', ARGV[index])
end
redis.call('SPUBLISH', KEYS[10], ARGV[5])
if seq > retired_seq() then redis.call('HSET', KEYS[2], 'retired', ARGV[4]) end

redis.call('UNLINK', KEYS[1], KEYS[4], KEYS[5], KEYS[9])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[6], ARGV[1])
redis.call('ZREM', KEYS[7], ARGV[1])

return {'ok', now}
