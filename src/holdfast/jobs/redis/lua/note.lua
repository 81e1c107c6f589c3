-- Keep short texts about a job. ARGV: jid, seconds, field, text, field, text… What is kept for longer already stays for as long.
local note = string.sub(KEYS[1], 1, -7) .. 'hf:note:' .. ARGV[1]
local ms = math.min(tonumber(ARGV[2]), 3650 * 86400) * 1000
redis.call('HSET', note, unpack(ARGV, 3))
if redis.call('PTTL', note) < ms then redis.call('PEXPIRE', note, string.format('%.0f', ms)) end
return 1
