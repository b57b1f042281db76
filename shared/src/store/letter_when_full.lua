-- Adds a dead letter although the memory is full. From `min_letters` on it replaces the oldest ones, as many as are together as large,
-- so that the stream does not grow.
-- KEYS dead letters   ARGV min_letters, then fields and values
local key = KEYS[1]
local min_letters = tonumber(ARGV[1])

local function size(fields)
  local bytes = 0
  for _, text in ipairs(fields) do bytes = bytes + #text end
  return bytes
end

local count = redis.call('XLEN', key)
if count >= min_letters then
  local needed, removed, from = size({unpack(ARGV, 2)}), 0, '-'
  while needed > 0 and removed < count do
    local oldest = redis.call('XRANGE', key, from, '+', 'COUNT', 1)[1]
    needed = needed - size(oldest[2])
    removed = removed + 1
    from = '(' .. oldest[1]
  end
  redis.call('XTRIM', key, 'MAXLEN', count - removed)
end
return redis.call('XADD', key, '*', unpack(ARGV, 2))
