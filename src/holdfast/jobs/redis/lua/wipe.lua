-- uses shared.lua
-- Delete jobs of a queue, its oldest first. ARGV: queue, limit. Returns how many.
local raws = call('RPOP', P .. 'queue:' .. ARGV[1], ARGV[2])
if not raws then
  call('SREM', P .. 'queues', ARGV[1])
  return 0
end
for i = 1, #raws do
  local job, hf = look(raws[i])
  if job then over(job, hf, 'dropped', '') end
end
return #raws
