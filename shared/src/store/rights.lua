-- Checks which of these commands the user of this connection may run. Runs none of them. The script counts as one that
-- writes, so a server that refuses writes (failed snapshots, too few replicas, a replica) refuses it too. A full one does not.
-- ARGV: commands, each as its number of words followed by the words.
-- Answer: the indexes, from 0 on, of the commands that are not allowed.
local denied = {}
local command, position = 0, 1
while position <= #ARGV do
  local words = tonumber(ARGV[position])
  -- A command that the server does not know raises an error.
  local is_known, is_allowed = pcall(redis.acl_check_cmd, unpack(ARGV, position + 1, position + words))
  if not (is_known and is_allowed) then table.insert(denied, command) end
  command, position = command + 1, position + words + 1
end
return denied
