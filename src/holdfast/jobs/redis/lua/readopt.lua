-- Put jobs back into an owner's hands, out of where they wait. ARGV: owner, depth, then for each: token, queue, job, and the bytes under
-- which it lies in the schedule or among the retries ('': nowhere). Returns the tokens of those that could not be.
local call = redis.call
local P = string.sub(KEYS[1], 1, -7)
local hash, lost = P .. 'hf:lease:' .. ARGV[1], {}
if not call('ZSCORE', P .. 'hf:owners', ARGV[1]) then return false end

-- What a server gave away in the second that it forgot lies at the end from which is taken. Looked at once for all: an LREM of
-- each one that is not there would go through a million jobs.
local fronts = {}
local function is_near(queue, raw)
  if not fronts[queue] then
    local front = {}
    for _, one in ipairs(call('LRANGE', queue, -tonumber(ARGV[2]), -1)) do front[one] = true end
    fronts[queue] = front
  end
  return fronts[queue][raw]
end

for i = 3, #ARGV, 4 do
  local token, raw, other = ARGV[i], ARGV[i + 2], ARGV[i + 3]
  local queue, lease = P .. 'queue:' .. ARGV[i + 1], ARGV[i + 1] .. '\n' .. raw
  if call('HGET', hash, token) ~= lease then
    if (is_near(queue, raw) and call('LREM', queue, -1, raw) == 1)
      or (other ~= '' and (call('ZREM', P .. 'retry', other) == 1 or call('ZREM', P .. 'schedule', other) == 1)) then
      call('HSET', hash, token, lease)
    else
      lost[#lost + 1] = token
    end
  end
end
return lost
