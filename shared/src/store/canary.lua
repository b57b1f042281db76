-- Increments the canary, and publishes the new count.
-- Answer: the new count.
local count_key, channel = unpack(KEYS)
local count = redis.call('INCR', count_key)
redis.call('SPUBLISH', channel, count)
return count
