-- Renews leases. ARGV after the prelude's: triples of executor, session and lease in ms. Replies
-- 1 at the place of each that was renewed.
local meta, refused = open()
if not meta then
  return refused
end
local renewed = {}
for at = 4, #ARGV, 3 do
  local executor, session, lease = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local is_current = session ~= '' and redis.call('HGET', prefix .. 'executor:' .. executor, 'session') == session
  if is_current then
    redis.call('ZADD', prefix .. 'leases', text(now + tonumber(lease)), executor)
  end
  renewed[#renewed + 1] = is_current and 1 or 0
end
return renewed
