-- Replaces a history by its thinned copy, to which the samples that came since are added.
-- KEYS history, copy   ARGV id of the last sample that was copied or left out, number of samples that were copied
-- Answer: the number of samples that the history had and no longer has.
local history, copy = unpack(KEYS)
local last = ARGV[1]
local max_newer = 1000

-- The device was retired, or another process has replaced the history. Then the copy must not bring anything back. If its maker was
-- paused, it may have expired and begun anew. Then it must not replace more than it has.
local is_same = #redis.call('XRANGE', history, last, last) == 1
local newer = redis.call('XRANGE', history, '(' .. last, '+', 'COUNT', max_newer)
if not is_same or #newer == max_newer or redis.call('XLEN', copy) ~= tonumber(ARGV[2]) then
  redis.call('PEXPIRE', copy, 1)
  return 0
end
local before = redis.call('XLEN', history)
for _, sample in ipairs(newer) do redis.call('XADD', copy, sample[1], unpack(sample[2])) end
redis.call('PERSIST', copy)
redis.call('RENAME', copy, history)
return before - redis.call('XLEN', history)
