#!lua flags=no-writes
-- Reads job records. ARGV: 1 key prefix, then ids. Replies (record, revision) for each.
local reply = {}
for at = 2, #ARGV do
  local job = redis.call('HMGET', ARGV[1] .. 'job:' .. ARGV[at], 'record', 'revision')
  reply[#reply + 1] = job[1]
  reply[#reply + 1] = job[2]
end
return reply
