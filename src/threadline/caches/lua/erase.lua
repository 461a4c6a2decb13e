#!lua flags=allow-oom
-- Forget a thread, every namespace of it.
-- KEYS[1] (set): the namespaces of the thread that have entries. KEYS[2] (string): the word that an incarnation was
-- erased. The entries themselves are named after KEYS[1] and lie in the same slot.
-- ARGV[1] (text): what their names begin with. ARGV[2] (integer): milliseconds that the word stays; 0: none is said.
-- Returns how many entries there were.
local gone = 0
for _, namespace in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  gone = gone + redis.call('DEL', ARGV[1] .. namespace)
end
redis.call('DEL', KEYS[1])
if tonumber(ARGV[2]) > 0 then
  redis.call('SET', KEYS[2], '', 'PX', ARGV[2])
end
return gone
