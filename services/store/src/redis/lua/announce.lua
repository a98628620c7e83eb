-- Announces a scheduler replica and forgets those whose announcement expired. ARGV after the
-- prelude's: 4 id, 5 ttl in ms, 6 record. Replies the time. A value is "expiry heartbeat record".
local key = prefix .. 'schedulers'
redis.call('HSET', key, ARGV[4], text(now + tonumber(ARGV[5])) .. ' ' .. text(now) .. ' ' .. ARGV[6])
local all = redis.call('HGETALL', key)
for at = 1, #all, 2 do
  local expiry = string.match(all[at + 1], '^(%d+)')
  if tonumber(expiry) <= now then
    redis.call('HDEL', key, all[at])
  end
end
return text(now)
