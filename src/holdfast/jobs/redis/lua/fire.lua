-- uses shared.lua
-- Push the job of a periodic one, once for each slot. ARGV: name, slot, job. Returns 1 if this call did it.
local last = call('HGET', H .. 'cron', ARGV[1])
if last and tonumber(last) >= tonumber(ARGV[2]) then return 0 end
local job = decoded(ARGV[3])
if not job then return redis.error_reply('ERR this is no job: its JSON is not understood by the server') end
call('HSET', H .. 'cron', ARGV[1], ARGV[2])
enter(ARGV[3], job)
return 1
