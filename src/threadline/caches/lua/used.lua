#!lua
-- A thread was used: the least recently used ones make room.
-- KEYS[1] (sorted set): the threads that have entries, by when they were used (milliseconds of this server's clock).
-- ARGV[1] (bytes): the thread. ARGV[2] (integer): most threads. ARGV[3] (integer): milliseconds that this is kept.
-- Returns the threads that are to be forgotten, at most 16.
local now = redis.call('TIME')
redis.call('ZADD', KEYS[1], now[1] * 1000 + math.floor(now[2] / 1000), ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
local over = redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[2])
if over <= 0 then
  return {}
end
local gone = {}
local least = redis.call('ZPOPMIN', KEYS[1], math.min(over, 16))
for i = 1, #least, 2 do
  table.insert(gone, least[i])
end
return gone
