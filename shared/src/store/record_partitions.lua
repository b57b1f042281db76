-- Records the number of partitions, if none is recorded.
-- KEYS partitions   ARGV the number
return redis.call('SET', KEYS[1], ARGV[1], 'NX')
