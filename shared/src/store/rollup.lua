-- Adds blocks to a rollup of a device, if it still ends where its writer found its end. So several writers add each block once, and none is
-- left out: what one could not write, whoever comes next must begin with.
-- KEYS source (the history, or the rollup of which this one is made), rollup
-- ARGV id of the last entry of the source in these blocks, id of the last block of the rollup ('' for none), life of the rollup in ms; then
--      id and contents of each block
-- Answer: the number of blocks that were added, 0 if the source or the rollup has changed.
local source, rollup = unpack(KEYS)
local source_last, rollup_last, life_ms = unpack(ARGV, 1, 3)
local first_block = 4

-- The device was retired, or so much was trimmed: what is gone must not come back.
if #redis.call('XRANGE', source, source_last, source_last) ~= 1 then return 0 end
local newest = redis.call('XREVRANGE', rollup, '+', '-', 'COUNT', 1)
local found = ''
if #newest > 0 then found = newest[1][1] end
if found ~= rollup_last then return 0 end

for index = first_block, #ARGV, 2 do
  redis.call('XADD', rollup, ARGV[index], 'b', ARGV[index + 1])
end
-- Nothing in it is newer than now. If nothing is added for so long, all of it is too old: it goes by itself.
redis.call('PEXPIRE', rollup, life_ms)
return (#ARGV - first_block + 1) / 2
