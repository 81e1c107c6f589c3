-- uses shared.lua
-- Take in jobs that have a lock or a batch. ARGV: for each its time ('' now) and the job. Returns for each '' or who holds its lock.
local out = {}
for i = 1, #ARGV, 2 do
  local job = decoded(ARGV[i + 1])
  if not job then return redis.error_reply('ERR this is no job: its JSON is not understood by the server') end
end
for i = 1, #ARGV, 2 do
  local at, raw = ARGV[i], ARGV[i + 1]
  out[#out + 1] = enter(raw, decoded(raw), at ~= '' and at or nil)
end
return out
