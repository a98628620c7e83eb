-- Reads the cluster's counters and the lock. Where the server is another one than the stored
-- run_id says (restarted, replaced, or the first ever), a new generation begins first. ARGV after
-- the prelude's: 4 the newest generation that the caller has seen; an older one here is a copy that
-- knows nothing of it, and a newer one begins.
local m = redis.call('HMGET', meta_key, 'run_id', 'generation')
local seen = tonumber(ARGV[4])
local known = tonumber(m[2] or '0')
if m[1] ~= run_id or known < seen then
  local generation = math.max(known + 1, seen + 1, now)
  redis.call('HSET', meta_key, 'run_id', run_id, 'generation', text(generation), 'generation_since', text(now))
  -- Nobody leads in it yet: what an earlier leader assigned may be lost, and its epoch must never name
  -- another assignment. An expired lock was given up when it expired, not now.
  local expiry = tonumber(redis.call('HGET', prefix .. 'lock', 'expiry_ms') or '0')
  if expiry > 0 then
    redis.call('HSET', prefix .. 'lock', 'owner', '', 'scheduler_id', '', 'expiry_ms', text(math.min(expiry, now)))
  end
  for _, field in ipairs({ 'revision', 'log_bytes', 'mark_ms', 'mark_bytes' }) do
    redis.call('HSETNX', meta_key, field, '0')
  end
end
m = redis.call('HMGET', meta_key, 'generation', 'revision', 'generation_since')
local lock = redis.call('HMGET', prefix .. 'lock', 'epoch', 'owner', 'scheduler_id', 'expiry_ms', 'pauses')
return {
  m[1], m[2], m[3], text(now),
  { lock[1] or '0', lock[2] or '', lock[3] or '', lock[4] or '0', lock[5] or '' },
  redis.call('HGETALL', prefix .. 'counts'),
}
