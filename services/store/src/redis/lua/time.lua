-- The cluster's time, which never goes back (rules/time.rs says how and why); what the server's clock
-- shows; and, where that was set, how far time is ahead of it from now on.
local function read_time(meta_key)
  local clock = redis.call('TIME')
  local clock_ms = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
  local known = redis.call('HMGET', meta_key, 'told_ms', 'clock_ms', 'ahead_ms', 'ahead_since')
  local told, last_clock = tonumber(known[1] or '0'), tonumber(known[2] or '0')
  if clock_ms < last_clock or clock_ms - last_clock > 60000 then
    local time = math.max(clock_ms, told)
    return time, clock_ms, time - clock_ms
  end
  local ahead, since = tonumber(known[3] or '0'), tonumber(known[4] or '0')
  local caught_up = math.floor(math.max(0, clock_ms - since) / 10)
  return math.max(clock_ms + math.max(0, ahead - caught_up), told), clock_ms, nil
end

