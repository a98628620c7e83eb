#!lua flags=no-writes
-- Reads the log after a position. ARGV: 1 key prefix, 2 generation, 3 revision, 4 most entries.
-- Replies 'RESYNC' or a list of (first revision, changes).
local prefix = ARGV[1]
local meta = redis.call('HMGET', prefix .. 'meta', 'generation', 'revision')
local after = tonumber(ARGV[3])
if meta[1] ~= ARGV[2] or tonumber(meta[2]) < after then
  return 'RESYNC'
end
if tonumber(meta[2]) == after then
  return {}
end
local entries = redis.call('XRANGE', prefix .. 'log', '(' .. ARGV[2] .. '-' .. ARGV[3], '+', 'COUNT', ARGV[4])
local reply = {}
for _, entry in ipairs(entries) do
  -- An entry's fields are f, first revision, c, changes.
  reply[#reply + 1] = entry[2][2]
  reply[#reply + 1] = entry[2][4]
end
if #reply == 0 or tonumber(reply[1]) > after + 1 then
  return 'RESYNC'
end
return reply
