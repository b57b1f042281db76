-- Reads one device. Keys, arguments and answer: see state.lua.
return load()
