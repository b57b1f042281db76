-- Reads one device with its events.
-- KEYS device, partition, seen, events, changes
-- ARGV device id, the seq from which on events are wanted or ''
-- Answer: {state, events, changes}: the answer of `load` in state.lua, and both streams, oldest first, empty without a seq.
local since = ARGV[2]

local state = load()
if state[1] ~= 'state' or since == '' then return {state, {}, {}} end
local events = redis.pcall('XRANGE', events_key, since .. '-0', '+')
if events.err then return {refused(events_key, events.err), {}, {}} end
local changes = redis.pcall('XRANGE', changes_key, '-', '+')
if changes.err then return {refused(changes_key, changes.err), {}, {}} end
return {state, events, changes}
