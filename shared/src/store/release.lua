-- Frees the places of devices that are not stored.
-- KEYS   admitted: sorted set of device → time of its last reservation
-- ARGV   for each device: its id, a time in ms. A place that was reserved at that time or later is kept.
-- Answer: the number of places freed.
local freed = 0
for index = 1, #ARGV, 2 do
  local reserved = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[index]))
  if reserved and reserved < tonumber(ARGV[index + 1]) then
    freed = freed + redis.call('ZREM', KEYS[1], ARGV[index])
  end
end
return freed
