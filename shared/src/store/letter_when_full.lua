-- Adds a dead letter although the memory is full. From `min_letters` on the oldest make room for it, so their number does not grow.
-- KEYS dead letters   ARGV min_letters, then fields and values
local key = KEYS[1]
local min_letters = tonumber(ARGV[1])
local count = redis.call('XLEN', key)
if count >= min_letters then redis.call('XTRIM', key, 'MAXLEN', count - 1) end
return redis.call('XADD', key, '*', unpack(ARGV, 2))
