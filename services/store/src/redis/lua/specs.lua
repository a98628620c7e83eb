#!lua flags=no-writes
-- Reads specs. ARGV: 1 key prefix, then ids.
local reply = {}
for at = 2, #ARGV do
  reply[#reply + 1] = redis.call('GET', ARGV[1] .. 'spec:' .. ARGV[at])
end
return reply
