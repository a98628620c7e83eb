-- The cluster's time, which never goes back (rules/time.rs says how and why); what the server's clock
-- shows; and the latest time that was told.
local function read_time(meta_key)
  local clock = redis.call('TIME')
  local clock_ms = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
  local known = redis.call('HMGET', meta_key, 'told_ms', 'ahead_ms', 'ahead_since')
  local told = tonumber(known[1] or '0')
  local ahead, since = tonumber(known[2] or '0'), tonumber(known[3] or '0')
  local caught_up = math.floor(math.max(0, clock_ms - since) / 10)
  return clock_ms + math.max(0, ahead - caught_up), clock_ms, told
end

