-- uses shared.lua
-- No more jobs come. ARGV: name.
local key = H .. 'batch:' .. ARGV[1]
if call('EXISTS', key) == 1 then
  call('HSET', key, 'open', '0')
  batch_over(key)
end
return 1
