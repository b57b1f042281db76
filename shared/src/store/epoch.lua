-- Opens a partition's epoch where there is none, or where it was opened on another server run.
-- KEYS[1] partition hash   ARGV[1] run_id of the server   ARGV[2] a new epoch
-- Answer: the epoch that now stands.
local run_id, epoch = unpack(redis.call('HMGET', KEYS[1], 'run_id', 'epoch'))
if run_id == ARGV[1] and epoch then return epoch end
redis.call('HSET', KEYS[1], 'run_id', ARGV[1], 'epoch', ARGV[2])
return ARGV[2]
