-- The canary: counts on and publishes the count, by the kind of script and on the connection that commits use.
-- KEYS[1] count   KEYS[2] channel   Answer: the count.
local count = redis.call('INCR', KEYS[1])
redis.call('SPUBLISH', KEYS[2], count)
return count
