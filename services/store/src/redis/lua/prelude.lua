-- What every script that writes begins with. ARGV: 1 key prefix, 2 log age (ms), 3 log bytes.
--
-- Numbers (revisions, generations, epochs, times) stay below 2^53 and are exact as doubles, but
-- must be written by text(): tostring() would round them to 14 digits.
local prefix = ARGV[1]
local meta_key = prefix .. 'meta'

local function text(number)
  return string.format('%.0f', number)
end

local now, clock_ms, ahead = read_time(meta_key)
redis.call('HSET', meta_key, 'told_ms', text(now), 'clock_ms', text(clock_ms))
if ahead then
  redis.call('HSET', meta_key, 'ahead_ms', text(ahead), 'ahead_since', text(clock_ms))
end
local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')

-- The cluster's counters, or an error reply if the server is not the one that was adopted.
local function open()
  local m = redis.call('HMGET', meta_key, 'run_id', 'generation', 'revision', 'log_bytes', 'mark_ms', 'mark_bytes')
  if m[1] ~= run_id then
    return nil, redis.error_reply('NEWSERVER another server than the one that was adopted')
  end
  return {
    generation = m[2],
    revision = tonumber(m[3]),
    log_bytes = tonumber(m[4]),
    mark_ms = tonumber(m[5]),
    mark_bytes = tonumber(m[6]),
  }
end

-- Drops what is older than the log's age or beyond its size. Marks, one in each 1/32 of either
-- bound, say how old and how far the log was at an entry, so that no entry is read for this.
local function trim(meta, entry_id, bytes_before)
  local max_age, max_bytes = tonumber(ARGV[2]), tonumber(ARGV[3])
  if now - meta.mark_ms < max_age / 32 and meta.log_bytes - meta.mark_bytes < max_bytes / 32 then
    return
  end
  local marks = prefix .. 'log_marks'
  redis.call('RPUSH', marks, text(now) .. ' ' .. text(bytes_before) .. ' ' .. entry_id)
  redis.call('HSET', meta_key, 'mark_ms', text(now), 'mark_bytes', text(meta.log_bytes))
  local keep_from = nil
  for _ = 1, 256 do
    local mark = redis.call('LINDEX', marks, 0)
    local ms, bytes, id = string.match(mark, '^(%d+) (%d+) (%S+)$')
    local is_old = now - tonumber(ms) > max_age
    local is_far = meta.log_bytes - tonumber(bytes) > max_bytes
    if id == entry_id or not (is_old or is_far) then
      break
    end
    keep_from = id
    redis.call('LPOP', marks)
  end
  if keep_from then
    redis.call('XTRIM', prefix .. 'log', 'MINID', keep_from)
  end
end

-- Appends the changes of one call, numbered from first to last, and stores the new revision.
local function append(meta, changes, first, last)
  local entry_id = meta.generation .. '-' .. text(last)
  local bytes_before = meta.log_bytes
  meta.revision = last
  meta.log_bytes = bytes_before + #changes
  redis.call('XADD', prefix .. 'log', entry_id, 'f', text(first), 'c', changes)
  redis.call('HSET', meta_key, 'revision', text(last), 'log_bytes', text(meta.log_bytes))
  trim(meta, entry_id, bytes_before)
end
