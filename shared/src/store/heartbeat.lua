-- Stores the report of an ingest replica that has an active subscription.
-- ARGV: its client id, the longest pause between reports in ms that is not an interruption, its topics (one per line), '1' if
--   its subscription brings no message, the version of its alarm rules, which unknown devices it accepts, how full it finds Redis.
-- Answer: the start, in ms, of the time without interruption in which at least one replica has had a subscription, and how many ms
--   at least one had a subscription before then.
local members_key, listening_key, quiet_key, rules_key, limits_key = unpack(KEYS)
local client_id, max_pause_ms, topics, is_quiet, rules, places, memory = unpack(ARGV)
local forget_after_ms = 3600000

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local newest = redis.call('ZREVRANGE', members_key, 0, 0, 'WITHSCORES')
local since = tonumber(redis.call('HGET', listening_key, 'since'))
local before = tonumber(redis.call('HGET', listening_key, 'before')) or 0
if #newest == 0 or now - tonumber(newest[2]) > tonumber(max_pause_ms) or not since then
  -- Replicas of an earlier release write no 'until', and may have begun after it.
  local last = tonumber(redis.call('HGET', listening_key, 'until'))
  if since and last and last > since then before = before + last - since end
  since = now
  redis.call('HSET', listening_key, 'since', since, 'before', before)
end
redis.call('HSET', listening_key, 'topics', topics, 'until', now)
redis.call('ZADD', members_key, now, client_id)
redis.call('HSET', rules_key, client_id, rules .. ' ' .. now)
if is_quiet == '1' then redis.call('ZADD', quiet_key, now, client_id) else redis.call('ZREM', quiet_key, client_id) end
redis.call('HSET', limits_key, client_id, now .. ' ' .. places .. ' ' .. memory)
for _, member in ipairs(redis.call('ZRANGEBYSCORE', members_key, '-inf', now - forget_after_ms)) do
  redis.call('HDEL', rules_key, member)
  redis.call('HDEL', limits_key, member)
end
for _, key in ipairs({members_key, quiet_key}) do redis.call('ZREMRANGEBYSCORE', key, '-inf', now - forget_after_ms) end
return {since, before}
