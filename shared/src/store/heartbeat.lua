-- Reports an ingest that has a subscription.
-- ARGV: its client id, the longest pause in ms that is no interruption, its topics, one per line.
-- Answer: since when, in ms, some ingest has had a subscription without interruption.
local members_key, listening_key = unpack(KEYS)
local client_id, max_pause_ms, topics = unpack(ARGV)
local forget_after_ms = 3600000

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local newest = redis.call('ZREVRANGE', members_key, 0, 0, 'WITHSCORES')
local since = tonumber(redis.call('HGET', listening_key, 'since'))
if #newest == 0 or now - tonumber(newest[2]) > tonumber(max_pause_ms) or not since then
  since = now
  redis.call('HSET', listening_key, 'since', since)
end
redis.call('HSET', listening_key, 'topics', topics)
redis.call('ZADD', members_key, now, client_id)
redis.call('ZREMRANGEBYSCORE', members_key, '-inf', now - forget_after_ms)
return since
