-- Loads the state of one device, and compares it with an earlier one. This text is prepended to every script that answers with
-- the state of a device.
--
-- Answer of `load`: {'state', epoch, last_message, seq_floor, rev, event_epoch, seq, alarms, order, prints, latest, memory, more},
-- or {'refused', reason} if a key has the wrong type.
--
-- seq_floor is the highest seq known to be used. It is read from the streams only if the hash has no seq, or a wrong
-- one. An unknown device starts above every retired one. A device whose state is lost does not: its own seq may have been
-- higher still, and only a new epoch is safe then.

local device_key, partition_key, seen_key, events_key, changes_key = unpack(KEYS)
local device_id = ARGV[1]

local function refused(key, reason) return {'refused', key .. ': ' .. reason} end

-- Server time in milliseconds.
local function time_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function last_seq(stream)
  local newest = redis.pcall('XREVRANGE', stream, '+', '-', 'COUNT', 1)
  if newest.err or #newest == 0 then return 0 end
  return tonumber(string.match(newest[1][1], '^%d+')) or 0
end

-- Only a retirement removes a device from the list. So a listed device was stored, even if its hash is missing.
local function is_stored(rev)
  return rev or redis.call('HEXISTS', device_key, 'latest') == 1 or redis.pcall('ZSCORE', seen_key, device_id)
end

local function retired_seq()
  return tonumber(redis.call('HGET', partition_key, 'retired')) or 0
end

local function load(read_streams)
  local fields = redis.pcall('HMGET', device_key, 'rev', 'epoch', 'seq', 'alarms', 'order', 'prints', 'latest', 'memory', 'more')
  if fields.err then return refused(device_key, fields.err) end
  local rev, seq = fields[1], fields[3]
  local epoch = redis.pcall('HGET', partition_key, 'epoch')
  if type(epoch) == 'table' then return refused(partition_key, epoch.err) end
  local last_message = redis.pcall('ZSCORE', seen_key, device_id)
  if type(last_message) == 'table' then return refused(seen_key, last_message.err) end
  local seq_floor = 0
  -- The same format as in the Rust code. Lua's `tonumber` would accept `1e3` too.
  local is_seq = seq and #seq < 20 and string.find(seq, '^%d+$')
  if read_streams or not rev or not is_seq then
    seq_floor = math.max(last_seq(events_key), last_seq(changes_key))
  end
  if not is_stored(rev) then seq_floor = math.max(seq_floor, retired_seq()) end
  return {'state', epoch, last_message, seq_floor, unpack(fields, 1, 9)}
end

-- Compares the stored state with the one a decision started from. Returns nil if they are the same, else the answer of the
-- script. An unknown device must not use a seq that a retired one had.
local function conflict(started_rev, started_epoch, event_seq)
  local stored = redis.pcall('HMGET', device_key, 'rev', 'seq')
  if stored.err then return refused(device_key, stored.err) end
  local epoch = redis.pcall('HGET', partition_key, 'epoch')
  if type(epoch) == 'table' then return refused(partition_key, epoch.err) end
  local rev = (stored[1] or '') .. ' ' .. (stored[2] or '')
  if rev ~= started_rev or epoch ~= started_epoch then return load() end
  if not is_stored(stored[1]) and event_seq ~= '' and tonumber(event_seq) <= retired_seq() then return load() end
end

-- Checks the types of keys. Redis does not undo a failed script, so this must happen before the first write.
-- Returns nil, or a refusal as the answer of the script.
local function wrong_type(expected)
  for key, kind in pairs(expected) do
    local found = redis.call('TYPE', key).ok
    if found ~= 'none' and found ~= kind then
      return refused(key, 'is a ' .. found .. ', not a ' .. kind)
    end
  end
end
