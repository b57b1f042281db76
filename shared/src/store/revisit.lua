-- Gives silent devices without a deadline one that has passed, so that a timer looks at them.
-- KEYS   seen, deadlines of a partition   ARGV  time in ms until which a device must have been silent, number of devices
-- Answer: the number of devices.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local added = 0
for _, device in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], 1, ARGV[1])) do
  if added >= tonumber(ARGV[2]) then break end
  added = added + redis.call('ZADD', KEYS[2], 'NX', now, device)
end
return added
