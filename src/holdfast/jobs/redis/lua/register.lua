-- Begin the life of an owner. ARGV: owner, lease in seconds. Returns 0 for one that was declared dead.
local H = string.sub(KEYS[1], 1, -7) .. 'hf:'
local t = redis.call('TIME')
local now = tonumber(t[1]) + tonumber(t[2]) / 1000000
-- Needs no memory, and after it a full server lets the rest of this script pass: a new worker can drain it.
redis.call('ZREMRANGEBYSCORE', H .. 'fenced', '-inf', now - 30 * 86400)
if redis.call('ZSCORE', H .. 'fenced', ARGV[1]) then return 0 end
redis.call('ZADD', H .. 'owners', string.format('%.6f', now + tonumber(ARGV[2])), ARGV[1])
return 1
