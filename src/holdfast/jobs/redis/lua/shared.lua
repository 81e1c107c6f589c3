-- What has to happen in the same instant when a job comes in or ends: locks, limits, followers, batches, results.
-- Stands in front of each script that needs it. A payload is decoded to look at it, never encoded again: cjson would spoil big numbers.
local call, find, sub = redis.call, string.find, string.sub
local P = sub(KEYS[1], 1, -7)
local H = P .. 'hf:'
local KEEP_LOCK_S, KEEP_BATCH_S, KEEP_STATE_S = 60 * 86400, 7 * 86400, 3600

local clock
local function now()
  if not clock then
    local t = call('TIME')
    clock = tonumber(t[1]) + tonumber(t[2]) / 1000000
  end
  return clock
end

local function score(time) return string.format('%.6f', time) end

-- Whatever a foreign job says: an error in the middle of a script would leave half of it done.
local function ms(seconds) return string.format('%.0f', math.ceil(math.min(math.max(seconds, 0.001), 3650 * 86400) * 1000)) end

local function text(value) return type(value) == 'string' and value ~= '' and value or nil end

local function decoded(raw)
  if not find(raw, '^%s*{') then return nil end
  local ok, job = pcall(cjson.decode, raw)
  return ok and type(job) == 'table' and job or nil
end

-- The job and what lies under `hf`, if there is anything.
local function look(raw)
  if not find(raw, '"hf"', 1, true) then return nil end
  local job = decoded(raw)
  if job and type(job.hf) == 'table' then return job, job.hf end
end

local function split(lease)
  local cut = find(lease, '\n', 1, true)
  return sub(lease, 1, cut - 1), sub(lease, cut + 1)
end

local function stamped(raw, job)
  if job.enqueued_at then return raw end
  local is_ms = type(job.created_at) == 'number' and job.created_at > 100000000000
  local at = is_ms and string.format('%.0f', math.floor(now() * 1000)) or score(now())
  return '{"enqueued_at":' .. at .. ',' .. sub(raw, find(raw, '{', 1, true) + 1)
end

local function put(queue, raw, front)
  call('SADD', P .. 'queues', queue)
  call(front and 'RPUSH' or 'LPUSH', P .. 'queue:' .. queue, raw)
end

local function bury(raw, at)
  local dead = P .. 'dead'
  call('ZADD', dead, at, raw)
  call('ZREMRANGEBYSCORE', dead, '-inf', '(' .. score(now() - 180 * 86400))
  call('ZREMRANGEBYRANK', dead, 0, -10001)
end

-- Take the lock of a job: '' if it has it now, else the jid of the one that has. A lock without a time of its own ends, too, long after
-- the last retry: a job that somebody deleted behind our back must not hold it for ever.
local function lock_for(job, hf, wait_s)
  local keep_s = tonumber(hf.unique_s) or 0
  if keep_s <= 0 then keep_s = KEEP_LOCK_S + wait_s end
  local key = H .. 'unique:' .. hf.unique
  if call('SET', key, text(job.jid) or '?', 'NX', 'PX', ms(keep_s)) then return '' end
  return call('GET', key)
end

-- Take in one job: '' if it was stored, else the jid of the one that holds its lock.
local function enter(raw, job, at)
  local hf = type(job.hf) == 'table' and job.hf or {}
  local lock, batch = text(hf.unique), text(hf.batch)
  if lock then
    local holder = lock_for(job, hf, at and math.max(0, tonumber(at) - now()) or 0)
    if holder ~= '' then return holder end
  end
  if batch then
    local key = H .. 'batch:' .. batch
    if call('EXISTS', key) == 1 then call('HINCRBY', key, 'total', 1) end
  end
  if at then call('ZADD', P .. 'schedule', at, raw) else put(text(job.queue) or 'default', raw) end
  return ''
end

-- The same for a job that comes from inside another one's JSON.
local function follow(raw)
  local job = text(raw) and decoded(raw)
  if job and text(job.class) then enter(stamped(raw, job), job) end
end

local function unlock(job, hf)
  local lock = text(hf.unique)
  if lock and call('GET', H .. 'unique:' .. lock) == job.jid then call('DEL', H .. 'unique:' .. lock) end
end

-- Put up to `most` of those who wait for this limit at the front of their queues, as far as it has room; returns how many. One too many
-- does no harm: it is put aside again.
local function let_in(limit, crowd)
  local places, n, s = string.match(call('HGET', H .. 'waiting', limit) or '', '^(%S+) (%S+) (%S+)$')
  if not places then return 0 end
  places, n, s = tonumber(places), tonumber(n), tonumber(s)
  local list, room, turn = H .. 'waiting:' .. limit, crowd, now() + 1
  if places > 0 then room = math.min(room, places - call('SCARD', H .. 'limit:' .. limit)) end
  if n > 0 then
    local key = H .. 'rate:' .. limit
    call('ZREMRANGEBYSCORE', key, '-inf', score(now() - s))
    local started = call('ZCARD', key)
    local free = n - started
    room = math.min(room, free)
    -- Full: when its oldest start is out of sight. Else those that are let in now have to start first.
    local oldest = free <= 0 and call('ZRANGE', key, started - n, started - n, 'WITHSCORES')
    turn = oldest and tonumber(oldest[2]) + s or now() + math.min(s, 1)
  end
  local chosen = room > 0 and call('LPOP', list, room) or {}
  -- The one that has waited longest ends up first.
  for i = #chosen, 1, -1 do
    local queue, raw = split(chosen[i])
    put(queue, raw, true)
  end
  if call('EXISTS', list) == 1 then
    call('ZADD', H .. 'turns', score(turn), limit)
  else
    call('HDEL', H .. 'waiting', limit)
    call('ZREM', H .. 'turns', limit)
  end
  return #chosen
end

local function leave(limit, owner, token)
  if call('SREM', H .. 'limit:' .. limit, owner .. ' ' .. token) == 1 then let_in(limit, 1) end
end

local function batch_over(key)
  local b = call('HMGET', key, 'total', 'done', 'failed', 'open', 'fired', 'callback')
  if b[4] == '0' and b[5] ~= '1' and tonumber(b[2]) + tonumber(b[3]) >= tonumber(b[1]) then
    call('HSET', key, 'fired', '1')
    call('EXPIRE', key, KEEP_BATCH_S)
    follow(b[6])
  end
end

-- The last end of a job: nothing of it runs any more. state: done, dead or dropped.
local function over(job, hf, state, result)
  local jid = text(job.jid)
  unlock(job, hf)
  if jid then
    local note, keep_s = H .. 'note:' .. jid, math.max(KEEP_STATE_S, tonumber(hf.result_s) or 0)
    if state == 'done' and result ~= '' and (tonumber(hf.result_s) or 0) > 0 then
      call('SET', H .. 'result:' .. jid, result, 'PX', ms(tonumber(hf.result_s)))
    end
    call('HSET', note, 'state', state)
    if call('PTTL', note) < tonumber(ms(keep_s)) then call('PEXPIRE', note, ms(keep_s)) end
    -- As long as there is a mark, each job of everybody is looked at for it.
    if state == 'dropped' then call('ZREM', H .. 'cancelled', jid) end
  end
  if state == 'done' and type(hf['then']) == 'table' then
    for _, raw in ipairs(hf['then']) do follow(raw) end
  end
  local batch = text(hf.batch)
  if batch then
    local key = H .. 'batch:' .. batch
    if call('EXISTS', key) == 1 then
      call('HINCRBY', key, state == 'done' and 'done' or 'failed', 1)
      batch_over(key)
    end
  end
end

-- A job that was dead lives again: its batch counts it anew.
local function revive(job, hf)
  if text(job.jid) then call('HDEL', H .. 'note:' .. job.jid, 'state') end
  local key = text(hf.batch) and H .. 'batch:' .. hf.batch
  if key and tonumber(call('HGET', key, 'failed') or 0) > 0 then call('HINCRBY', key, 'failed', -1) end
end

local STATES = { ack = 'done', dead = 'dead', drop = 'dropped' }

-- End one lease (already out of its hash) in one of the ways of core/lease.py.
local function settle(owner, token, lease, how, raw, at, result)
  local queue, was = split(lease)
  local job, hf = look(was)
  if raw == '' then raw = was end
  if how == 'retry' then
    call('ZADD', P .. 'retry', at, raw)
  elseif how == 'dead' then
    bury(raw, tonumber(at) > 0 and at or score(now()))
  elseif how == 'back' then
    put(queue, raw, true)
    -- It lost its lock at its start and has not started after all.
    if hf and text(hf.unique) and hf.unique_until == 'start' then lock_for(job, hf, 0) end
  elseif how == 'suspect' then
    put('quarantine', raw)
  end
  if hf and text(hf.limit) then leave(hf.limit, owner, token) end
  local state = STATES[how]
  if state then
    job = job or decoded(was)
    if job then over(job, hf or {}, state, result) end
  end
end

-- Put what an owner holds back to the front of its queues; the one taken first ends up first. backs: {token, job ('' as it was)}…
local function give_back(owner, backs)
  local hash = H .. 'lease:' .. owner
  table.sort(backs, function(a, b) return tonumber(a[1]) > tonumber(b[1]) end)
  for _, back in ipairs(backs) do
    local lease = call('HGET', hash, back[1])
    if lease then
      call('HDEL', hash, back[1])
      settle(owner, back[1], lease, 'back', back[2], '', '')
    end
  end
end

-- Settle what ARGV lists from `i` on, five words each; returns how many ran, how many of those failed, and those that go back.
local function settle_all(owner, i, missing)
  local hash, ran, failed, backs = H .. 'lease:' .. owner, 0, 0, {}
  while ARGV[i] do
    local token, how = ARGV[i], ARGV[i + 1]
    local lease = call('HGET', hash, token)
    if not lease then
      missing[#missing + 1] = token
    elseif how == 'back' then
      backs[#backs + 1] = { token, ARGV[i + 2] }
    else
      -- First what needs no memory: after it a full server lets the rest of a script pass.
      call('HDEL', hash, token)
      settle(owner, token, lease, how, ARGV[i + 2], ARGV[i + 3], ARGV[i + 4])
      if how == 'ack' then ran = ran + 1 end
      if how == 'retry' or how == 'dead' then
        ran = ran + 1
        failed = failed + 1
      end
    end
    i = i + 5
  end
  return ran, failed, backs
end

local function count(date, name, by)
  if by == 0 then return end
  local daily = P .. 'stat:' .. name .. ':' .. date
  call('INCRBY', P .. 'stat:' .. name, by)
  if call('INCRBY', daily, by) == by then call('EXPIRE', daily, 5 * 365 * 86400) end
end
