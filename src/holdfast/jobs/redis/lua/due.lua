-- uses shared.lua
-- Return what is due, and let in who waits for a place that is free. ARGV: limit.
-- Returns {now, score of the next that is not due yet or '', how many were let in, retry jobs, schedule jobs}.
local next_one
local out = { score(now()), '', 0 }
local left = tonumber(ARGV[1])

local function look_ahead(key)
  local later = call('ZRANGEBYSCORE', key, '(' .. score(now()), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if later[2] and (not next_one or tonumber(later[2]) < next_one) then next_one = tonumber(later[2]) end
end

for _, name in ipairs({ 'retry', 'schedule' }) do
  local key = P .. name
  local due = left > 0 and call('ZRANGEBYSCORE', key, '-inf', score(now()), 'LIMIT', 0, left) or {}
  left = left - #due
  out[#out + 1] = due
  look_ahead(key)
end

-- Whose rate allows it by now. Also: a place may have become free without anybody being let in, because its holder's lease is gone (the
-- server came back with less than it had), or who was let in was deleted, or waits in a queue that is paused.
local turns = call('ZRANGEBYSCORE', H .. 'turns', '-inf', score(now()), 'LIMIT', 0, 100)
-- Needs no memory, and after it a full server lets the rest pass: what is due must not be held up by it.
if #turns > 0 then call('ZREM', H .. 'turns', '') end
for _, limit in ipairs(turns) do
  local holders = H .. 'limit:' .. limit
  for _, place in ipairs(call('SMEMBERS', holders)) do
    local owner, token = string.match(place, '^(.*) (%d+)$')
    if not owner or call('HEXISTS', H .. 'lease:' .. owner, token) == 0 then call('SREM', holders, place) end
  end
  if call('HEXISTS', H .. 'waiting', limit) == 0 then call('ZREM', H .. 'turns', limit) end
  out[3] = out[3] + let_in(limit, 100)
end
if #turns == 100 then next_one = now() else look_ahead(H .. 'turns') end
if next_one then out[2] = score(next_one) end
return out
