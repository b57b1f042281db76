-- Gives places to unknown devices, before their first commit. All devices together have a limited number of places.
-- KEYS   admitted: sorted set of device → time of its last reservation; counted: exists once the stored devices have their places
-- ARGV   number of places; number of further places for devices in alarm; then for each device: its id, '1' if it is in alarm
-- Answer: for each device 1 if it has a place, else 0. 'uncounted' if the stored devices have no places yet: nothing is done. Then
-- `count_places.lua` writes `counted`, whatever it was.
local admitted_key, counted_key = unpack(KEYS)
local places, reserve = tonumber(ARGV[1]), tonumber(ARGV[2])

local found = redis.call('TYPE', admitted_key).ok
if found ~= 'none' and found ~= 'zset' then
  return redis.error_reply('WRONGTYPE it is a ' .. found .. ', not a zset')
end
if redis.call('TYPE', counted_key).ok ~= 'string' then return 'uncounted' end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local answers = {}
local taken = redis.call('ZCARD', admitted_key)
for index = 3, #ARGV, 2 do
  local device, limit = ARGV[index], places
  if ARGV[index + 1] == '1' then limit = places + reserve end
  -- Asking again keeps the place, and tells a retirement that it is used again.
  if redis.call('ZSCORE', admitted_key, device) then
    redis.call('ZADD', admitted_key, now, device)
    answers[#answers + 1] = 1
  elseif taken < limit then
    redis.call('ZADD', admitted_key, now, device)
    taken = taken + 1
    answers[#answers + 1] = 1
  else
    answers[#answers + 1] = 0
  end
end
return answers
