#!lua flags=no-writes
-- Reads one page of an index. ARGV: 1 key prefix, 2 index, 3 order (score, reverse or id),
-- 4 limit, 5 score and 6 id of the last job of the page before ('' at the start).
-- Replies (id, score, record, revision) for each.
local prefix, order, limit, score, id = ARGV[1], ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]
local key = prefix .. ARGV[2]

-- Compares bytes, as sorted sets do; `<` would follow the server's locale.
local function is_after(a, b)
  for at = 1, math.min(#a, #b) do
    local x, y = string.byte(a, at), string.byte(b, at)
    if x ~= y then
      return x > y
    end
  end
  return #a > #b
end

-- The rank of the first job after (score, id), which may have left the index meanwhile.
local function rank_after()
  if id == '' then
    return 0
  end
  local low = redis.call('ZCOUNT', key, '-inf', '(' .. score)
  local high = redis.call('ZCOUNT', key, '-inf', score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if is_after(redis.call('ZRANGE', key, middle, middle)[1], id) then
      high = middle
    else
      low = middle + 1
    end
  end
  return low
end

local found
if order == 'id' then
  local ids = redis.call('ZRANGEBYLEX', key, id == '' and '-' or '(' .. id, '+', 'LIMIT', 0, limit)
  found = {}
  for _, member in ipairs(ids) do
    found[#found + 1] = member
    found[#found + 1] = '0'
  end
elseif order == 'reverse' then
  -- Scores are submit revisions here: no two are equal.
  local from = id == '' and '+inf' or '(' .. score
  found = redis.call('ZREVRANGEBYSCORE', key, from, '-inf', 'WITHSCORES', 'LIMIT', 0, limit)
else
  local rank = rank_after()
  found = redis.call('ZRANGE', key, rank, rank + limit - 1, 'WITHSCORES')
end

local reply = {}
for at = 1, #found, 2 do
  local job = redis.call('HMGET', prefix .. 'job:' .. found[at], 'record', 'revision')
  reply[#reply + 1] = found[at]
  reply[#reply + 1] = string.format('%.0f', tonumber(found[at + 1]))
  reply[#reply + 1] = job[1]
  reply[#reply + 1] = job[2]
end
return reply
