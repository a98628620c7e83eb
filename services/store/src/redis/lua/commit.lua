-- Applies one call. ARGV after the prelude's: 4 generation ('' any), 5 epoch ('' no leader),
-- 6 owner, 7 number of mutations, then each mutation: an operation and its fixed fields.
--
-- A script does not roll back: all checks of a mutation come before its first write.
local meta, refused = open()
if not meta then
  return refused
end
if ARGV[4] ~= '' and ARGV[4] ~= meta.generation then
  return redis.error_reply('GENERATION ' .. meta.generation)
end
if ARGV[5] ~= '' then
  local lock = redis.call('HMGET', prefix .. 'lock', 'epoch', 'owner')
  if lock[1] ~= ARGV[5] or lock[2] ~= ARGV[6] then
    return redis.error_reply('FENCED the lock is not held with this epoch')
  end
end
if is_crowded() then
  return redis.error_reply('FULL the memory is nearly used up')
end

local first = meta.revision + 1
local revision = meta.revision
local changes = {}
local counts = {}
-- Where the operation of the mutation at hand stands.
local at_hand = 8

-- Numbers a mutation that passed its checks and keeps its change for the log.
local function applied(head, record)
  revision = revision + 1
  changes[#changes + 1] = head
  changes[#changes + 1] = record
  return text(revision)
end

local function count(state, by)
  counts[state] = (counts[state] or 0) + by
end

-- Sorted sets are read by nothing here, so their changes are gathered and written together at the
-- end: by key, then by job, the new score, or false to take the job out.
local moves = {}

local function move(key, id, score)
  local of_key = moves[key]
  if not of_key then
    of_key = {}
    moves[key] = of_key
  end
  of_key[id] = score
end

-- An index is named by the words of the job's `index` field: pending, delayed:MS,
-- assigned:EXECUTOR, finished:MS. Those of a call are few, so each is taken apart once.
local indexes = {}

local function parts(index)
  local known = indexes[index]
  if not known then
    local kind, word = string.match(index, '^(%a+):?(.*)$')
    known = { kind = kind, word = word, executor = kind == 'assigned' and word or nil }
    known.key = known.executor and index or kind
    indexes[index] = known
  end
  return known
end

-- A set of assigned jobs is ordered by id, so its score is 0.
local function enter_index(id, index, base, submit)
  local to = parts(index)
  if to.kind == 'pending' then
    move('pending', id, text(tonumber(base) + tonumber(submit)))
  else
    move(to.key, id, to.executor and '0' or to.word)
  end
end

local function leave_index(id, index)
  move(parts(index).key, id, false)
end

local function assigned_to(index)
  return parts(index).executor
end

-- Executors read so far, with what is reserved on them now; false for one that does not exist.
-- Reservations of CPU and memory are written at the end, devices at once.
local executors = {}

local function executor(id)
  local known = executors[id]
  if known == nil then
    local e = redis.call('HMGET', prefix .. 'executor:' .. id,
      'state', 'session', 'cpu', 'memory', 'reserved_cpu', 'reserved_memory', 'devices')
    known = e[1] and {
      state = e[1], session = e[2], cpu = tonumber(e[3]), memory = tonumber(e[4]),
      reserved_cpu = tonumber(e[5]), reserved_memory = tonumber(e[6]), devices = e[7],
    }
    executors[id] = known
  end
  return known
end

-- Checks that an executor takes jobs and has room; returns what conflicts, or nil.
local function check_room(id, cpu, memory, gpus)
  local e = executor(id)
  if not e then
    return 'M'
  end
  if e.state ~= 'ACTIVE' then
    return 'N'
  end
  if e.reserved_cpu + tonumber(cpu) > e.cpu or e.reserved_memory + tonumber(memory) > e.memory then
    return 'C'
  end
  if gpus == '' then
    return nil
  end
  local devices = ' ' .. e.devices .. ' '
  local seen = {}
  for gpu in string.gmatch(gpus, '%S+') do
    local is_theirs = string.find(devices, ' ' .. gpu .. ' ', 1, true)
    if not is_theirs or seen[gpu] or redis.call('HEXISTS', prefix .. 'gpus:' .. id, gpu) == 1 then
      return 'D'
    end
    seen[gpu] = true
  end
  return nil
end

local function add_reserved(id, cpu, memory)
  local e = executor(id)
  if e then
    e.reserved_cpu = e.reserved_cpu + cpu
    e.reserved_memory = e.reserved_memory + memory
    e.is_changed = true
  end
end

local function reserve(job_id, id, cpu, memory, gpus)
  add_reserved(id, tonumber(cpu), tonumber(memory))
  for gpu in string.gmatch(gpus, '%S+') do
    redis.call('HSET', prefix .. 'gpus:' .. id, gpu, job_id)
  end
end

-- Gives back exactly what a job's `reserved` field says was taken.
local function release(id, reserved)
  local cpu, memory, gpus = string.match(reserved, '^(%d+) (%d+) ?(.*)$')
  if not cpu then
    return
  end
  add_reserved(id, -tonumber(cpu), -tonumber(memory))
  for gpu in string.gmatch(gpus, '%S+') do
    redis.call('HDEL', prefix .. 'gpus:' .. id, gpu)
  end
end

-- Specs to be stored and jobs to be removed are gathered, too: the first as key and value, the second as keys, and by
-- id. Each kind is written before another operation could miss it.
local specs = {}
local gone = {}
local is_gone = {}

local function write_specs()
  if #specs > 0 then
    redis.call('MSET', unpack(specs))
    specs = {}
  end
end

local function write_gone()
  if #gone > 0 then
    redis.call('UNLINK', unpack(gone))
    gone, is_gone = {}, {}
  end
end

-- Ids of the submits that stand together at hand, of which none exists; nil before anyone looked.
local is_free = nil

local function exists(id)
  if not is_free then
    is_free = {}
    local ids, keys = {}, {}
    local at = at_hand
    while ARGV[at] == 'submit' do
      ids[#ids + 1] = ARGV[at + 1]
      keys[#keys + 1] = prefix .. 'job:' .. ARGV[at + 1]
      at = at + 11
    end
    if redis.call('EXISTS', unpack(keys)) == 0 then
      for _, free in ipairs(ids) do
        is_free[free] = true
      end
    end
  end
  local free = is_free[id]
  -- The second of that name in a call finds the first.
  is_free[id] = nil
  return not free and redis.call('EXISTS', prefix .. 'job:' .. id) == 1
end

local operations = {}

function operations.submit()
  write_gone()
  local id, head, record, spec, state, index, base, idem, hash, ttl = unpack(ARGV, at_hand + 1, at_hand + 10)
  local is_taken = exists(id)
  at_hand = at_hand + 11
  local idem_key = prefix .. 'idem:' .. idem
  if idem ~= '' then
    local known = redis.call('HMGET', idem_key, 'job', 'hash')
    if known[1] then
      return (known[2] == hash and 'E' or 'I') .. known[1]
    end
  end
  local key = prefix .. 'job:' .. id
  if is_taken then
    return 'J'
  end

  local at = applied(head, record)
  redis.call('HSET', key, 'revision', at, 'submit', at, 'state', state, 'index', index,
    'attempt', '', 'reserved', '', 'record', record)
  specs[#specs + 1] = prefix .. 'spec:' .. id
  specs[#specs + 1] = spec
  move('jobs', id, at)
  enter_index(id, index, base, at)
  count(state, 1)
  if idem ~= '' then
    redis.call('HSET', idem_key, 'job', id, 'hash', hash)
    redis.call('PEXPIRE', idem_key, ttl)
  end
  return 'A' .. at
end

function operations.update()
  write_gone()
  local id, expected, head, record, state, index, base, attempt, session_of, session, expected_attempt, cpu, memory, gpus =
    unpack(ARGV, at_hand + 1, at_hand + 14)
  at_hand = at_hand + 15
  local key = prefix .. 'job:' .. id
  local job = redis.call('HMGET', key, 'revision', 'state', 'index', 'submit', 'attempt', 'reserved')
  if not job[1] then
    return 'M'
  end
  if session_of ~= '' then
    local e = executor(session_of)
    if not e or e.session ~= session then
      return 'S'
    end
  end
  if expected_attempt ~= '' and job[5] ~= expected_attempt then
    return 'T'
  end
  if job[1] ~= expected then
    return 'R' .. job[1]
  end
  local held, wanted = assigned_to(job[3]), assigned_to(index)
  if wanted and wanted ~= held then
    local conflict = check_room(wanted, cpu, memory, gpus)
    if conflict then
      return conflict
    end
  end

  local at = applied(head, record)
  local reserved = job[6]
  if held ~= wanted then
    if held then
      release(held, reserved)
    end
    reserved = ''
    if wanted then
      reserve(id, wanted, cpu, memory, gpus)
      reserved = cpu .. ' ' .. memory .. ' ' .. gpus
    end
  end
  if job[3] == index and job[5] == attempt then
    redis.call('HSET', key, 'revision', at, 'state', state, 'record', record)
  else
    redis.call('HSET', key, 'revision', at, 'state', state, 'index', index,
      'attempt', attempt, 'reserved', reserved, 'record', record)
  end
  if job[3] ~= index then
    leave_index(id, job[3])
    enter_index(id, index, base, job[4])
  end
  if job[2] ~= state then
    count(job[2], -1)
    count(state, 1)
  end
  return 'A' .. at
end

function operations.delete()
  write_specs()
  local id, expected, change = unpack(ARGV, at_hand + 1, at_hand + 3)
  at_hand = at_hand + 4
  local key = prefix .. 'job:' .. id
  local job = redis.call('HMGET', key, 'revision', 'state', 'index', 'reserved')
  if not job[1] or is_gone[id] then
    return 'M'
  end
  if job[1] ~= expected then
    return 'R' .. job[1]
  end

  local at = applied(change, '')
  local held = assigned_to(job[3])
  if held then
    release(held, job[4])
  end
  leave_index(id, job[3])
  move('jobs', id, false)
  gone[#gone + 1] = key
  gone[#gone + 1] = prefix .. 'spec:' .. id
  is_gone[id] = true
  count(job[2], -1)
  return 'A' .. at
end

function operations.executor()
  local id, expected, head, record, session, state, cpu, memory, devices, lease = unpack(ARGV, at_hand + 1, at_hand + 10)
  at_hand = at_hand + 11
  local key = prefix .. 'executor:' .. id
  local stored = redis.call('HGET', key, 'revision')
  if not stored and expected ~= '0' then
    return 'M'
  end
  if stored and stored ~= expected then
    return 'R' .. stored
  end

  local at = applied(head, record)
  redis.call('HSET', key, 'revision', at, 'session', session, 'state', state,
    'cpu', cpu, 'memory', memory, 'devices', devices, 'record', record)
  if not stored then
    redis.call('HSET', key, 'reserved_cpu', '0', 'reserved_memory', '0')
    redis.call('SADD', prefix .. 'executors', id)
    executors[id] = nil
  elseif executors[id] then
    local e = executors[id]
    e.state, e.session, e.devices = state, session, devices
    e.cpu, e.memory = tonumber(cpu), tonumber(memory)
  end
  if session == '' then
    redis.call('ZREM', prefix .. 'leases', id)
  elseif lease ~= '' then
    redis.call('ZADD', prefix .. 'leases', text(now + tonumber(lease)), id)
  end
  return 'A' .. at
end

-- Writes what was gathered.
local function flush()
  write_specs()
  write_gone()
  for key, of_key in pairs(moves) do
    local entering, leaving = {}, {}
    for id, score in pairs(of_key) do
      if score then
        entering[#entering + 1] = score
        entering[#entering + 1] = id
      else
        leaving[#leaving + 1] = id
      end
    end
    if #leaving > 0 then
      redis.call('ZREM', prefix .. key, unpack(leaving))
    end
    if #entering > 0 then
      redis.call('ZADD', prefix .. key, unpack(entering))
    end
  end
  for id, e in pairs(executors) do
    if e and e.is_changed then
      redis.call('HSET', prefix .. 'executor:' .. id,
        'reserved_cpu', text(e.reserved_cpu), 'reserved_memory', text(e.reserved_memory))
    end
  end
  for state, by in pairs(counts) do
    if by ~= 0 then
      redis.call('HINCRBY', prefix .. 'counts', state, by)
    end
  end
end

local reply = { '', '', text(now) }
for _ = 1, tonumber(ARGV[7]) do
  reply[#reply + 1] = operations[ARGV[at_hand]]()
end
if revision >= first then
  flush()
  append(meta, table.concat(changes), first, revision)
end
reply[1], reply[2] = meta.generation, text(revision)
return reply
