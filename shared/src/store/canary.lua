-- Increments the canary and publishes its count.
-- Answer: the count.
local count_key, channel = unpack(KEYS)
local count = redis.call('INCR', count_key)
redis.call('SPUBLISH', channel, count)
return count
