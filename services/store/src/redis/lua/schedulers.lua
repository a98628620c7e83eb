-- Lists the replicas whose announcement has not expired: heartbeat, record, and so on.
local now = read_time(ARGV[1] .. 'meta')
local all = redis.call('HGETALL', ARGV[1] .. 'schedulers')
local alive = {}
for at = 2, #all, 2 do
  local expiry, heartbeat, start = string.match(all[at], '^(%d+) (%d+) ()')
  if tonumber(expiry) > now then
    alive[#alive + 1] = heartbeat
    alive[#alive + 1] = string.sub(all[at], start)
  end
end
return alive
