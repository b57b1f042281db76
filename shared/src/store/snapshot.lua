-- Reads one device with its events. Keys and arguments as in state.lua, and
-- ARGV[2] '' or the seq from which on events are wanted.
-- Answer: that of state.lua, {events}, {changes}; both streams oldest first, empty without a seq.
local state = load()
if state[1] ~= 'state' or ARGV[2] == '' then return {state, {}, {}} end
local events = redis.pcall('XRANGE', KEYS[4], ARGV[2] .. '-0', '+')
local changes = redis.pcall('XRANGE', KEYS[5], '-', '+')
if events.err then return {{'refused', KEYS[4] .. ': ' .. events.err}, {}, {}} end
if changes.err then return {{'refused', KEYS[5] .. ': ' .. changes.err}, {}, {}} end
return {state, events, changes}
