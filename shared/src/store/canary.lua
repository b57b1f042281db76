-- Increments the canary, and publishes the new count.
-- Answer: the new count.
local count_key, channel = unpack(KEYS)
-- A count that is not published would make every subscriber believe that it has lost its subscription.
if not redis.acl_check_cmd('SPUBLISH', channel, '') then
  return redis.error_reply('NOPERM the Redis user may not run `SPUBLISH ' .. channel .. '`')
end
local count = redis.call('INCR', count_key)
redis.call('SPUBLISH', channel, count)
return count
