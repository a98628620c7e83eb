-- Stands before the commit script where it brings new jobs only: says whether so much of the
-- server's memory is used that they have to wait. Looked up again after 100 ms.
local function is_crowded()
  local known = redis.call('HMGET', meta_key, 'memory_ms', 'crowded')
  local age = now - (tonumber(known[1] or '0'))
  if age >= 0 and age < 100 then
    return known[2] == '1'
  end
  local memory = redis.call('INFO', 'memory')
  local used = tonumber(string.match(memory, 'used_memory:(%d+)'))
  local limit = tonumber(string.match(memory, 'maxmemory:(%d+)'))
  local crowded = limit > 0 and used > limit * 0.85
  redis.call('HSET', meta_key, 'memory_ms', text(now), 'crowded', crowded and '1' or '0')
  return crowded
end
