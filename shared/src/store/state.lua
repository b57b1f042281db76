-- What deciding needs of one device, read at one moment. Stands in front of every script that answers with it.
-- KEYS[1] device hash   KEYS[2] partition hash   KEYS[3] seen   KEYS[4] events   KEYS[5] changes
-- ARGV[1] device id
-- Answer: {'state', epoch, last message, seq floor, rev, epoch of the last event, seq, alarms, order, prints, latest, memory}
--      or {'refused', reason} where a key has the wrong type.
-- The seq floor is the highest seq that is certainly taken; read from the streams only where the hash does not tell, or
-- where it told wrong. A device of which nothing is stored begins above every one that was retired. One whose state is
-- lost does not: its own number may have been higher, and only a new epoch is certain then.

local function last_seq(stream)
  local newest = redis.pcall('XREVRANGE', stream, '+', '-', 'COUNT', 1)
  if newest.err or #newest == 0 then return 0 end
  return tonumber(string.match(newest[1][1], '^%d+')) or 0
end

-- A device that is listed was stored, whatever became of its hash: only a retirement takes it from the list.
local function is_stored(rev)
  return rev or redis.call('HEXISTS', KEYS[1], 'latest') == 1 or redis.pcall('ZSCORE', KEYS[3], ARGV[1])
end

local function retired_seq()
  return tonumber(redis.call('HGET', KEYS[2], 'retired')) or 0
end

local function load(with_floor)
  local fields = redis.pcall('HMGET', KEYS[1], 'rev', 'epoch', 'seq', 'alarms', 'order', 'prints', 'latest', 'memory')
  if fields.err then return {'refused', KEYS[1] .. ': ' .. fields.err} end
  local epoch = redis.pcall('HGET', KEYS[2], 'epoch')
  if type(epoch) == 'table' then return {'refused', KEYS[2] .. ': ' .. epoch.err} end
  local last_message = redis.pcall('ZSCORE', KEYS[3], ARGV[1])
  if type(last_message) == 'table' then return {'refused', KEYS[3] .. ': ' .. last_message.err} end
  local floor = 0
  -- What the reader in Rust takes for a number, no more: Lua would take `1e3` too.
  local tells_seq = fields[3] and #fields[3] < 20 and string.find(fields[3], '^%d+$')
  if with_floor or not fields[1] or not tells_seq then
    floor = math.max(last_seq(KEYS[4]), last_seq(KEYS[5]))
  end
  if not is_stored(fields[1]) then floor = math.max(floor, retired_seq()) end
  return {'state', epoch, last_message, floor, unpack(fields, 1, 8)}
end

-- What to answer where a state does not stand any more: nil if rev, seq and epoch are those a decision started from and
-- the seq of its event is not one that a retired device had.
local function moved(started_rev, started_epoch, event_seq)
  local stored = redis.pcall('HMGET', KEYS[1], 'rev', 'seq')
  if stored.err then return {'refused', KEYS[1] .. ': ' .. stored.err} end
  local epoch = redis.pcall('HGET', KEYS[2], 'epoch')
  if type(epoch) == 'table' then return {'refused', KEYS[2] .. ': ' .. epoch.err} end
  local rev = (stored[1] or '') .. ' ' .. (stored[2] or '')
  if rev ~= started_rev or epoch ~= started_epoch then return load() end
  if not is_stored(stored[1]) and event_seq ~= '' and tonumber(event_seq) <= retired_seq() then return load() end
end
