-- Move jobs whose time has come, each if it is still there. ARGV: for each: retry or schedule, the job as it lies there, its queue ('': it is
-- no job, it goes to the dead ones), the job as it is pushed. Returns how many.
local call = redis.call
local P = string.sub(KEYS[1], 1, -7)
local moved = 0
for i = 1, #ARGV, 4 do
  if call('ZREM', P .. ARGV[i], ARGV[i + 1]) == 1 then
    moved = moved + 1
    if ARGV[i + 2] == '' then
      call('ZADD', P .. 'dead', call('TIME')[1], ARGV[i + 1])
    else
      call('SADD', P .. 'queues', ARGV[i + 2])
      call('LPUSH', P .. 'queue:' .. ARGV[i + 2], ARGV[i + 3])
    end
  end
end
return moved
