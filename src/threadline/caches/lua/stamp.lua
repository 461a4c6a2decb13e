#!lua
-- The store has confirmed a head. The rule is cache_protocol.confirms.
-- KEYS[1] (hash): the entry. KEYS[2] (set): the namespaces of the thread that have entries.
-- ARGV[1] (stamp): the head. ARGV[2] (text): when it was confirmed, <microseconds>:<mark>.
-- ARGV[3] (integer): milliseconds that the entry lives from now on.
-- Returns 1 when the entry is this head.
if redis.call('HGET', KEYS[1], 's') ~= ARGV[1] or redis.call('HEXISTS', KEYS[1], 'h') == 0 then
  return 0
end
local kept = redis.call('HGET', KEYS[1], 't')
local old = kept and tonumber(string.match(kept, '^(%d+):')) or 0
if tonumber(string.match(ARGV[2], '^(%d+):')) > old then
  redis.call('HSET', KEYS[1], 't', ARGV[2])
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], 2 * tonumber(ARGV[3]))
return 1
