#!lua flags=no-writes
-- Reads what the log has after an entry, in whatever generation it was made. ARGV: 1 key prefix,
-- 2 generation, 3 revision, 4 most entries. Replies a list of (generation, first revision, changes).
local entries = redis.call('XRANGE', ARGV[1] .. 'log', '(' .. ARGV[2] .. '-' .. ARGV[3], '+', 'COUNT', ARGV[4])
local reply = {}
for _, entry in ipairs(entries) do
  -- An entry's name is its generation and its last revision, its fields are f, first revision, c, changes.
  reply[#reply + 1] = string.match(entry[1], '^%d+')
  reply[#reply + 1] = entry[2][2]
  reply[#reply + 1] = entry[2][4]
end
return reply
