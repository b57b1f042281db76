-- An ingest with a live subscription reports itself.
-- KEYS[1] members   KEYS[2] listening   ARGV[1] client id   ARGV[2] longest pause in ms that still counts as listening
-- ARGV[3] topics, one per line
-- Answer: since when some ingest has been listening without interruption, in ms.
local now = redis.call('TIME')
now = tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000)
local newest = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local since = tonumber(redis.call('HGET', KEYS[2], 'since'))
if #newest == 0 or now - tonumber(newest[2]) > tonumber(ARGV[2]) or not since then
  since = now
  redis.call('HSET', KEYS[2], 'since', since)
end
redis.call('HSET', KEYS[2], 'topics', ARGV[3])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - 3600000)
return since
