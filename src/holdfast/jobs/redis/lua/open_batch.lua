-- Begin a batch. ARGV: name, callback.
local key = string.sub(KEYS[1], 1, -7) .. 'hf:batch:' .. ARGV[1]
if redis.call('EXISTS', key) == 0 then
  redis.call('HSET', key, 'total', 0, 'done', 0, 'failed', 0, 'open', 1, 'fired', 0, 'callback', ARGV[2])
end
return 1
