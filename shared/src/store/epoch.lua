-- Opens a partition's epoch where there is none, where it was opened on another server run, or where it is given up.
-- KEYS[1] partition hash   ARGV[1] run_id of the server   ARGV[2] a new epoch   ARGV[3] the epoch given up ('' for none)
-- Answer: the epoch that now stands.
local run_id, epoch = unpack(redis.call('HMGET', KEYS[1], 'run_id', 'epoch'))
local stands = epoch and #epoch == 12 and not string.find(epoch, '[^0-9a-f]')
if run_id == ARGV[1] and stands and epoch ~= ARGV[3] then return epoch end
redis.call('HSET', KEYS[1], 'run_id', ARGV[1], 'epoch', ARGV[2])
return ARGV[2]
