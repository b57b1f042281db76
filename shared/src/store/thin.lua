-- Copies a piece of a history into another stream, without every second sample.
-- KEYS history, copy   ARGV first id of the piece as in XRANGE, its number of samples (even), life of the copy in ms
-- Answer: {id of the last sample of the piece, '' if there is none; number of samples}
local history, copy = unpack(KEYS)
local from, count, life_ms = unpack(ARGV)
local samples = redis.call('XRANGE', history, from, '+', 'COUNT', count)
for index = 1, #samples, 2 do
  redis.call('XADD', copy, samples[index][1], unpack(samples[index][2]))
end
-- If its maker dies, it goes by itself.
redis.call('PEXPIRE', copy, life_ms)
local last = ''
if #samples > 0 then last = samples[#samples][1] end
return {last, #samples}
