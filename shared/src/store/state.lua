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

-- Runs a command that reads. Returns its answer, or nil and the error if the key has the wrong type. Any other error concerns
-- the server and not this device: it ends the script.
local function read(...)
  local answer = redis.pcall(...)
  if type(answer) ~= 'table' or not answer.err then return answer end
  if string.sub(answer.err, 1, 9) == 'WRONGTYPE' then return nil, answer.err end
  error(answer)
end

-- Ends the script if the user may not run this command. Redis does not undo a failed script, so this must happen before the
-- first write: the rights of a user may change at any time.
local function need(command, key, ...)
  if not redis.acl_check_cmd(command, key, ...) then
    error({err = 'NOPERM the Redis user may not run `' .. command .. ' ' .. key .. '`'})
  end
end

-- Server time in milliseconds.
local function time_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function last_seq(stream)
  local newest = read('XREVRANGE', stream, '+', '-', 'COUNT', 1)
  if not newest or #newest == 0 then return 0 end
  return tonumber(string.match(newest[1][1], '^%d+')) or 0
end

-- Only a retirement removes a device from the list. So a listed device was stored, even if its hash is missing.
local function is_stored(rev)
  if rev or redis.call('HEXISTS', device_key, 'latest') == 1 then return true end
  local last_message, wrong_type = read('ZSCORE', seen_key, device_id)
  return last_message or wrong_type
end

local function retired_seq()
  return tonumber(redis.call('HGET', partition_key, 'retired')) or 0
end

local function load(read_streams)
  local wrong_type
  local fields, epoch, last_message
  fields, wrong_type = read('HMGET', device_key, 'rev', 'epoch', 'seq', 'alarms', 'order', 'prints', 'latest', 'memory', 'more')
  if wrong_type then return refused(device_key, wrong_type) end
  local rev, seq = fields[1], fields[3]
  epoch, wrong_type = read('HGET', partition_key, 'epoch')
  if wrong_type then return refused(partition_key, wrong_type) end
  last_message, wrong_type = read('ZSCORE', seen_key, device_id)
  if wrong_type then return refused(seen_key, wrong_type) end
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
  local wrong_type
  local stored, epoch
  stored, wrong_type = read('HMGET', device_key, 'rev', 'seq')
  if wrong_type then return refused(device_key, wrong_type) end
  epoch, wrong_type = read('HGET', partition_key, 'epoch')
  if wrong_type then return refused(partition_key, wrong_type) end
  local rev = (stored[1] or '') .. ' ' .. (stored[2] or '')
  if rev ~= started_rev or epoch ~= started_epoch then return load() end
  if not is_stored(stored[1]) and event_seq ~= '' and tonumber(event_seq) <= retired_seq() then return load() end
end

-- Checks the types of keys, before the first write.
-- Returns nil, or a refusal as the answer of the script.
local function wrong_type(expected)
  for key, kind in pairs(expected) do
    local found = redis.call('TYPE', key).ok
    if found ~= 'none' and found ~= kind then
      return refused(key, 'is a ' .. found .. ', not a ' .. kind)
    end
  end
end
