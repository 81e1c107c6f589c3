-- Keep leases and show their owners as Sidekiq's processes. ARGV: lease in seconds, then for each owner: owner, info, busy, beat, quiet,
-- rss, rtt, number of running, and for each of those: field, token, start. Returns {fenced owners, {owner, signal, signal…}, …}.
local call = redis.call
local P = string.sub(KEYS[1], 1, -7)
local owners = P .. 'hf:owners'
local t = call('TIME')
local till = string.format('%.6f', tonumber(t[1]) + tonumber(t[2]) / 1000000 + tonumber(ARGV[1]))
local fenced = {}
local out = { fenced }
local i = 2
while ARGV[i] do
  local owner, running = ARGV[i], tonumber(ARGV[i + 7])
  local key = P .. owner
  -- Needs no memory, and after it a full server lets the rest pass: it must not cost the leases.
  call('UNLINK', key .. ':work', key .. ':workers')
  if call('ZSCORE', owners, owner) then
    call('ZADD', owners, till, owner)
    call('SADD', P .. 'processes', owner)
    call('HSET', key, 'info', ARGV[i + 1], 'busy', ARGV[i + 2], 'beat', ARGV[i + 3], 'quiet', ARGV[i + 4], 'rss', ARGV[i + 5], 'rtt_us', ARGV[i + 6])
    call('EXPIRE', key, 60)
    local work = {}
    for j = i + 8, i + 5 + 3 * running, 3 do
      local lease = call('HGET', P .. 'hf:lease:' .. owner, ARGV[j + 1])
      if lease then
        local cut = string.find(lease, '\n', 1, true)
        work[#work + 1] = ARGV[j]
        work[#work + 1] = cjson.encode({ queue = string.sub(lease, 1, cut - 1), payload = string.sub(lease, cut + 1), run_at = tonumber(ARGV[j + 2]) })
      end
    end
    for _, name in ipairs({ ':work', ':workers' }) do
      for w = 1, #work, 1000 do call('HSET', key .. name, unpack(work, w, math.min(w + 999, #work))) end
      if #work > 0 then call('EXPIRE', key .. name, 60) end
    end
    local signals = { owner }
    for _ = 1, 10 do
      local signal = call('RPOP', key .. '-signals')
      if not signal then break end
      signals[#signals + 1] = signal
    end
    if #signals > 1 then out[#out + 1] = signals end
  else
    fenced[#fenced + 1] = owner
  end
  i = i + 8 + 3 * running
end
return out
