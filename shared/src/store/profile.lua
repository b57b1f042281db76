-- Replaces the profile of a stored device, if it is still the one that was read. The device gets a number, by which gateways whose clients
-- follow all devices find it.
--
-- KEYS   as named in the next line
local device_key, partition_key, seen_key, listings_key = unpack(KEYS)
-- ARGV   device id; the profile that was read; the new one. '' is none
local device_id, expected, profile = unpack(ARGV)
-- Answer: 'ok', 'changed', or 'unknown' for a device that is not stored.

if not redis.call('ZSCORE', seen_key, device_id) then return 'unknown' end
if redis.call('HEXISTS', device_key, 'latest') == 0 then return 'unknown' end
if (redis.call('HGET', device_key, 'profile') or '') ~= expected then return 'changed' end
local kind = redis.call('TYPE', listings_key).ok
redis.call('HSET', device_key, 'profile', profile)
if kind == 'zset' or kind == 'none' then
  local number = (tonumber(redis.call('HGET', partition_key, 'events')) or 0) + 1
  redis.call('HSET', partition_key, 'events', number)
  redis.call('ZADD', listings_key, number, device_id)
end
return 'ok'
