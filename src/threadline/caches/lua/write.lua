#!lua
-- Keep a head, as a whole or as what it adds to the one before. The rule is cache_protocol.decide.
-- KEYS[1] (hash): the entry of a thread and namespace. KEYS[2] (set): the namespaces of the thread that have entries.
-- KEYS[3] (string): exists when the incarnation was erased.
-- ARGV[1] (stamp): the head that is brought, <incarnation>:<gc>:<version>:<digest>.
-- ARGV[2] (stamp or ''): the head that it adds to; '': it is whole.
-- ARGV[3] (stamp or ''): the entry that the store has contradicted.
-- ARGV[4] (integer): milliseconds that the entry lives. ARGV[5] (integer): and a floor.
-- ARGV[6] (text or ''): when it was confirmed, <microseconds>:<mark>.
-- ARGV[7] (text): the namespace, as a member of KEYS[2].
-- ARGV[8] (text or ''): ranges <log>:<start>:<end>, that are in use; rows outside all of them go. '': none goes.
-- ARGV[9] (integer): number of fields that go, which follow; then field, value, field, value, ... to be set.
-- Returns the rule that was followed.
local new, base, refuted = ARGV[1], ARGV[2], ARGV[3]
local kept = redis.call('HGET', KEYS[1], 's')
local whole = redis.call('HEXISTS', KEYS[1], 'h') == 1

local function parts(stamp)
  local life, gc, version = string.match(stamp, '^(%x+):(%d+):(%d+):%x*$')
  return life, tonumber(gc), tonumber(version)
end

local life, gc, version = parts(new)
local old_life, old_gc, old_version
if kept then
  old_life, old_gc, old_version = parts(kept)
end
local before = old_life ~= life or old_gc < gc or (old_gc == gc and old_version < version)
local together = old_life == life and old_gc == gc and old_version == version

local rule
if redis.call('EXISTS', KEYS[3]) == 1 then
  rule = 'ignore'
elseif base ~= '' then
  if not old_life then
    rule = 'ignore'
  elseif whole and kept == base then
    rule = 'extend'
  else
    rule = before and 'floor' or 'ignore'
  end
elseif not old_life or old_life ~= life then
  rule = 'replace'
elseif kept == refuted then
  rule = 'replace'
elseif whole and kept == new then
  rule = 'touch'
elseif before or (not whole and together) then
  rule = 'replace'
else
  rule = 'ignore'
end

-- The later of two confirmations of one head.
local function confirm(value)
  local at = redis.call('HGET', KEYS[1], 't')
  local old = at and tonumber(string.match(at, '^(%d+):')) or 0
  if value ~= '' and tonumber(string.match(value, '^(%d+):')) > old then
    redis.call('HSET', KEYS[1], 't', value)
  end
end

-- Rows that a written row reaches over, and rows that are outside all ranges. A row ends where the next begins.
local function sweep(ranges)
  local rows, logs = {}, {}
  for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
    local log, start = string.match(name, '^r:(%d+):(%d+)$')
    if log then
      rows[log] = rows[log] or {}
      table.insert(rows[log], tonumber(start))
    end
  end
  for log, first, last in string.gmatch(ranges, '(%d+):(%d+):(%d+)') do
    logs[log] = logs[log] or {}
    table.insert(logs[log], {tonumber(first), tonumber(last)})
  end
  for log, starts in pairs(rows) do
    table.sort(starts)
    for i, start in ipairs(starts) do
      local stop = starts[i + 1] or math.huge
      local used = false
      for _, range in ipairs(logs[log] or {}) do
        used = used or (start < range[2] and stop > range[1])
      end
      if not used then
        redis.call('HDEL', KEYS[1], 'r:' .. log .. ':' .. string.format('%d', start))
      end
    end
  end
end

local function set()
  local first = 10 + tonumber(ARGV[9])
  for i = 10, first - 1 do
    redis.call('HDEL', KEYS[1], ARGV[i])
  end
  for i = first, #ARGV, 500 do
    redis.call('HSET', KEYS[1], unpack(ARGV, i, math.min(i + 499, #ARGV)))
  end
end

if rule == 'extend' then
  redis.call('HDEL', KEYS[1], 't')
  set()
  if ARGV[8] ~= '' then
    sweep(ARGV[8])
  end
elseif rule == 'replace' then
  redis.call('DEL', KEYS[1])
  set()
  confirm(ARGV[6])
elseif rule == 'touch' then
  confirm(ARGV[6])
elseif rule == 'floor' then
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 's', new)
end
if rule ~= 'ignore' then
  local live = rule == 'floor' and ARGV[5] or ARGV[4]
  redis.call('PEXPIRE', KEYS[1], live)
  redis.call('SADD', KEYS[2], ARGV[7])
  redis.call('PEXPIRE', KEYS[2], 2 * tonumber(ARGV[4]))
end
return rule
