-- The leader lock. ARGV after the prelude's: 4 operation, 5 owner, 6 epoch ('' to acquire),
-- 7 ttl in ms, 8 scheduler id. Replies the lock where it is the caller's, else an empty list.
local meta, refused = open()
if not meta then
  return refused
end
local lock_key = prefix .. 'lock'
local owner = ARGV[5]
local lock = redis.call('HMGET', lock_key, 'epoch', 'owner', 'expiry_ms', 'pauses')
local epoch, expiry = tonumber(lock[1] or '0'), tonumber(lock[3] or '0')

-- The protobuf form of an unsigned number.
local function varint(number)
  local bytes = {}
  while number >= 128 do
    bytes[#bytes + 1] = string.char(number % 128 + 128)
    number = math.floor(number / 128)
  end
  bytes[#bytes + 1] = string.char(number)
  return table.concat(bytes)
end

local function field(tag, bytes)
  return string.char(tag) .. varint(#bytes) .. bytes
end

-- Logs who leads: LogEntry.changes (1) of Change.leader (4) of epoch (1) and scheduler_id (2).
local function log_leader(leader_epoch, scheduler_id)
  local leader = string.char(0x08) .. varint(leader_epoch)
  if scheduler_id ~= '' then
    leader = leader .. field(0x12, scheduler_id)
  end
  local revision = meta.revision + 1
  append(meta, field(0x0a, field(0x22, leader)), revision, revision)
end

-- The pauses, with the time since the lock ended (before the first one, since the generation
-- began) if nobody led in it; the newest 64.
local function pauses_until_now()
  local from = expiry
  if epoch == 0 then
    from = tonumber(redis.call('HGET', meta_key, 'generation_since'))
  end
  local pauses = {}
  for pause in string.gmatch(lock[4] or '', '%S+') do
    pauses[#pauses + 1] = pause
  end
  if from < now then
    pauses[#pauses + 1] = text(from) .. '-' .. text(now)
  end
  return table.concat(pauses, ' ', math.max(1, #pauses - 63))
end

local function is_callers()
  return lock[1] == ARGV[6] and lock[2] == owner
end

local operations = {}

function operations.acquire()
  local is_held = (lock[2] or '') ~= '' and expiry > now
  if is_held and lock[2] ~= owner then
    return {}
  end
  local raised = math.max(epoch + 1, now)
  local until_ms = text(now + tonumber(ARGV[7]))
  local pauses = pauses_until_now()
  redis.call('HSET', lock_key, 'epoch', text(raised), 'owner', owner, 'scheduler_id', ARGV[8],
    'expiry_ms', until_ms, 'pauses', pauses)
  log_leader(raised, ARGV[8])
  return { text(raised), owner, ARGV[8], until_ms, pauses }
end

function operations.renew()
  if not is_callers() then
    return {}
  end
  redis.call('HSET', lock_key, 'expiry_ms', text(now + tonumber(ARGV[7])), 'pauses', pauses_until_now())
  return { lock[1] }
end

function operations.release()
  if not is_callers() then
    return {}
  end
  -- An expired lock was given up when it expired, not now.
  redis.call('HSET', lock_key, 'owner', '', 'scheduler_id', '', 'expiry_ms', text(math.min(expiry, now)))
  log_leader(epoch, '')
  return { lock[1] }
end

return operations[ARGV[4]]()
