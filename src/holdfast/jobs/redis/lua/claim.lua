-- uses shared.lua
-- End leases and take new ones. ARGV: owner, limit, first token, date, number of queues, number of done, queues…, done…, settled (5 each)…
-- Returns {missing tokens, {queue, job, job…}, …}, or nothing for an owner that is not registered.
local owner, left, token = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local queues, done = tonumber(ARGV[5]), tonumber(ARGV[6])
if not call('ZSCORE', H .. 'owners', owner) then return false end

local hash, missing, ran = H .. 'lease:' .. owner, {}, 0
-- Two calls for all of them: a call each costs 2 us, a value that is only looked at a tenth of that.
for first = 7 + queues, 6 + queues + done, 1000 do
  local last = math.min(first + 999, 6 + queues + done)
  local held = call('HMGET', hash, unpack(ARGV, first, last))
  for i = first, last do
    if not held[i - first + 1] then missing[#missing + 1] = ARGV[i] end
  end
  ran = ran + call('HDEL', hash, unpack(ARGV, first, last))
end
local more, failed, backs = settle_all(owner, 7 + queues + done, missing)
give_back(owner, backs)
count(ARGV[4], 'processed', ran + more)
count(ARGV[4], 'failed', failed)
local out = { missing }
if left == 0 then return out end

local paused = {}
for _, name in ipairs(call('SMEMBERS', P .. 'paused')) do paused[name] = true end
local cancels = call('EXISTS', H .. 'cancelled') == 1

local function is_cancelled(raw)
  for jid in string.gmatch(raw, '"jid"%s*:%s*"([^"\\]*)"') do
    -- A job's arguments may hold such a text, too: only its own jid counts.
    if call('ZSCORE', H .. 'cancelled', jid) then
      local job = decoded(raw)
      if job and job.jid == jid then return job end
    end
  end
end

local function put_aside(limit, most, n, s, raw, queue, turn)
  call('RPUSH', H .. 'waiting:' .. limit, queue .. '\n' .. raw)
  call('HSET', H .. 'waiting', limit, string.format('%d %d %.6f', most, n, s))
  call('ZADD', H .. 'turns', 'LT', score(turn), limit)
end

-- Whether a limit lets this job start now; if not, it is put aside.
local function is_free(hf, raw, queue)
  local limit = text(hf.limit)
  if not limit then return true end
  local most, place = math.floor(tonumber(hf.limit_max) or 0), owner .. ' ' .. string.format('%.0f', token)
  local n, s = 0, 0
  if type(hf.rate) == 'table' then n, s = math.floor(tonumber(hf.rate[1]) or 0), tonumber(hf.rate[2]) or 0 end
  if most > 0 and call('SCARD', H .. 'limit:' .. limit) >= most then
    put_aside(limit, most, n, s, raw, queue, now() + 1)
    return false
  end
  if n >= 1 and s > 0 then
    local key = H .. 'rate:' .. limit
    call('ZREMRANGEBYSCORE', key, '-inf', score(now() - s))
    local started = call('ZCARD', key)
    if started >= n then
      -- Its turn comes when the n-th last start is old enough.
      local oldest = call('ZRANGE', key, started - n, started - n, 'WITHSCORES')
      put_aside(limit, most, n, s, raw, queue, tonumber(oldest[2]) + s)
      return false
    end
    call('ZADD', key, score(now()), place)
    call('PEXPIRE', key, ms(s + 1))
  end
  if most > 0 then call('SADD', H .. 'limit:' .. limit, place) end
  return true
end

local function admit(raw, queue)
  local job = cancels and is_cancelled(raw)
  if job then
    over(job, type(job.hf) == 'table' and job.hf or {}, 'dropped', '')
    return false
  end
  local hf
  job, hf = look(raw)
  if not job then return true end
  if not is_free(hf, raw, queue) then return false end
  if hf.unique_until == 'start' then unlock(job, hf) end
  return true
end

-- So many jobs are looked at in one call at most: a queue full of jobs that have to wait must not hold the server up.
local looks = left + 500
local fields = {}
for q = 7, 6 + queues do
  local queue = ARGV[q]
  local got = { queue }
  while left > 0 and looks > 0 and not paused[queue] do
    local asked = math.min(left, looks)
    local raws = call('RPOP', P .. 'queue:' .. queue, asked)
    if not raws then break end
    looks = looks - #raws
    for i = 1, #raws do
      local raw = raws[i]
      if not (cancels or find(raw, '"hf"', 1, true)) or admit(raw, queue) then
        local n = #fields
        fields[n + 1], fields[n + 2] = token, queue .. '\n' .. raw
        got[#got + 1] = raw
        token, left = token + 1, left - 1
      end
    end
    if #raws < asked then break end
  end
  if #got > 1 then out[#out + 1] = got end
  if left == 0 or looks == 0 then break end
end
for i = 1, #fields, 1000 do call('HSET', hash, unpack(fields, i, math.min(i + 999, #fields))) end
return out
