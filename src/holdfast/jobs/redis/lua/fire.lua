-- uses shared.lua
-- Push the job of a periodic one, once for each slot. ARGV: name, slot, job, how much later another clock may be. Returns 1 if this call did it.
local last, slot, wrong_s = tonumber(call('HGET', H .. 'cron', ARGV[1]) or ''), tonumber(ARGV[2]), tonumber(ARGV[4])
-- One far in the future was fired by a clock that stood wrong: it must not silence this job until then.
if last and last >= slot and last - slot <= wrong_s then return 0 end
local job = decoded(ARGV[3])
if not job then return redis.error_reply('ERR this is no job: its JSON is not understood by the server') end
call('HSET', H .. 'cron', ARGV[1], ARGV[2])
enter(ARGV[3], job)
return 1
