-- Reads the state of one device and, if a seq is given, its event streams.
-- KEYS device, partition, seen, events, changes
-- ARGV device id, the lowest seq of the events to read ('' to read no stream)
-- Answer: {state, events, changes}. `state` is as the answer of `load` in state.lua. `events` and `changes` are stream entries,
-- oldest first. `changes` has all entries; the seq does not limit it.
local since = ARGV[2]

local state = load()
if state[1] ~= 'state' or since == '' then return {state, {}, {}} end
local events, events_problem = read('XRANGE', events_key, since .. '-0', '+')
if events_problem then return {refused(events_key, events_problem), {}, {}} end
local changes, changes_problem = read('XRANGE', changes_key, '-', '+')
if changes_problem then return {refused(changes_key, changes_problem), {}, {}} end
return {state, events, changes}
