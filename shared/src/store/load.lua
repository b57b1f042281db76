-- Reads the state of one device.
-- KEYS device, partition, seen, events, changes   ARGV device id   Answer: as `load` in state.lua.
return load()
