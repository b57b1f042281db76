-- Moves a deadline that exists.
-- KEYS deadlines   ARGV a time in ms, device id
return redis.call('ZADD', KEYS[1], 'XX', ARGV[1], ARGV[2])
