#!lua flags=no-writes
-- What is kept, if it is not too large to be ours.
-- KEYS[1] (hash): the entry of a thread and namespace.
-- ARGV[1] (integer): most fields. ARGV[2] (integer): most bytes.
-- Returns {seconds, microseconds, 1 or 0 (too large), {field, value, ...}}; the clock is read first.
local now = redis.call('TIME')
local kept = {}
local fits = 1
if redis.call('HLEN', KEYS[1]) > tonumber(ARGV[1]) then
  fits = 0
else
  kept = redis.call('HGETALL', KEYS[1])
  local size = 0
  for i = 1, #kept do
    size = size + #kept[i]
  end
  if size > tonumber(ARGV[2]) then
    fits, kept = 0, {}
  end
end
return {tonumber(now[1]), tonumber(now[2]), fits, kept}
