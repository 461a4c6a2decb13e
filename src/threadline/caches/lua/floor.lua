#!lua flags=allow-oom
-- Forget what is not newer than a head, and keep nothing older for a while. The rule is cache_protocol.decide_floor.
-- KEYS[1] (hash): the entry. KEYS[2] (set): the namespaces of the thread that have entries.
-- ARGV[1] (stamp): the head. ARGV[2] (integer): milliseconds that the word stays. ARGV[3] (text): the namespace.
-- Returns the rule that was followed.
local kept = redis.call('HGET', KEYS[1], 's')
local life, gc, version = string.match(ARGV[1], '^(%x+):(%d+):(%d+):')
local old_life, old_gc, old_version = string.match(kept or '', '^(%x+):(%d+):(%d+):%x*$')
gc, version, old_gc, old_version = tonumber(gc), tonumber(version), tonumber(old_gc), tonumber(old_version)
if old_life == life and (old_gc > gc or (old_gc == gc and old_version > version)) then
  return 'ignore'
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 's', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('SADD', KEYS[2], ARGV[3])
return 'floor'
