#!lua flags=no-writes
-- Reads executors. ARGV: 1 key prefix, then ids. Replies for each its record, revision, reserved
-- CPU and memory, devices in use, and the end of its lease.
local prefix = ARGV[1]
local reply = {}
for at = 2, #ARGV do
  local id = ARGV[at]
  local e = redis.call('HMGET', prefix .. 'executor:' .. id,
    'record', 'revision', 'reserved_cpu', 'reserved_memory')
  reply[#reply + 1] = {
    e[1], e[2], e[3], e[4],
    redis.call('HKEYS', prefix .. 'gpus:' .. id),
    string.format('%.0f', tonumber(redis.call('ZSCORE', prefix .. 'leases', id) or '0')),
  }
end
return reply
