-- Gives places to devices that are stored already.
-- KEYS   admitted: sorted set of device → time of its last reservation; counted: exists once all stored devices have their places
-- ARGV   time in ms; '1' if no stored device is missing after these; then devices
for index = 3, #ARGV do
  redis.call('ZADD', KEYS[1], 'NX', ARGV[1], ARGV[index])
end
if ARGV[2] == '1' then redis.call('SET', KEYS[2], ARGV[1]) end
return #ARGV - 2
