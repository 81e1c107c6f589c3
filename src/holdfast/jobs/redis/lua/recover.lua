-- uses shared.lua
-- Declare an owner dead. ARGV: owner, date, settled (5 each)…; all else that it holds goes back to the front. Returns how many it held.
local owner = ARGV[1]
local hash, key = H .. 'lease:' .. owner, P .. owner
call('ZREM', H .. 'owners', owner)
call('ZADD', H .. 'fenced', score(now()), owner)
local held = call('HLEN', hash)
local ran, failed, backs = settle_all(owner, 3, {})
count(ARGV[2], 'processed', ran)
count(ARGV[2], 'failed', failed)
local named = {}
for _, back in ipairs(backs) do named[back[1]] = true end
for _, token in ipairs(call('HKEYS', hash)) do
  if not named[token] then backs[#backs + 1] = { token, '' } end
end
give_back(owner, backs)
call('UNLINK', hash, key, key .. ':work', key .. ':workers', key .. '-signals')
call('SREM', P .. 'processes', owner)
return held
