-- Opens a new epoch in a partition if its epoch is missing or invalid, belongs to another run of the server, or must no longer
-- be used.
-- KEYS partition   ARGV the server's run_id, a new epoch, the epoch that must no longer be used ('' for none)
-- Answer: the present epoch.
local partition_key = KEYS[1]
local run_id, new_epoch, given_up = unpack(ARGV)
local stored_run_id, epoch = unpack(redis.call('HMGET', partition_key, 'run_id', 'epoch'))
local is_valid = epoch and #epoch == 12 and not string.find(epoch, '[^0-9a-f]')
if stored_run_id == run_id and is_valid and epoch ~= given_up then return epoch end
redis.call('HSET', partition_key, 'run_id', run_id, 'epoch', new_epoch)
return new_epoch
