-- Reads one device.
-- KEYS device, partition, seen, events, changes   ARGV device id   Answer: that of `load` in state.lua.
return load()
