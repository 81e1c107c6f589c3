-- uses shared.lua
-- Delete jobs that wait somewhere, or move them. ARGV: where to ('', 'dead' or 'queue:NAME'), now, then for each: kind (queue, zset,
-- waiting), key without prefix, member, the job as it is now, the job as it will be. Returns how many there were.
local to, at, moved = ARGV[1], ARGV[2], 0
for i = 3, #ARGV, 5 do
  local kind, key, member, raw, becomes = ARGV[i], P .. ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local job = decoded(raw) or {}
  local hf = type(job.hf) == 'table' and job.hf or {}
  local lives = ARGV[i + 1] == 'dead' and to ~= '' and to ~= 'dead'
  local n = 0
  -- One that is dead has no lock: it gets it back, or another job has it, and then it stays where it is.
  local lock = lives and text(hf.unique) and H .. 'unique:' .. hf.unique
  local holder = lock and call('GET', lock)
  if not holder or holder == job.jid then
    if kind == 'zset' then n = call('ZREM', key, member) else n = call('LREM', key, kind == 'queue' and -1 or 1, member) end
  end
  if n == 1 then
    moved = moved + 1
    if to == 'dead' then bury(becomes, at) end
    if to == '' or to == 'dead' then
      if ARGV[i + 1] ~= 'dead' then over(job, hf, to == 'dead' and 'dead' or 'dropped', '') end
    else
      if lives then
        revive(job, hf)
        if lock then lock_for(job, hf, 0) end
      end
      -- An older wish is forgotten.
      if text(job.jid) then call('ZREM', H .. 'cancelled', job.jid) end
      put(sub(to, 7), becomes)
    end
  end
end
return moved
