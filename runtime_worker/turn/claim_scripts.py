"""The scripts by which runs are claimed, vouched for, given back and taken over. Each decides in one step.

All times are Redis's own. What the keys hold: `run_locks`.
"""

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""
ACQUIRE = (
    _NOW
    + """
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'EX', ARGV[2]) then
  redis.call('ZADD', KEYS[2], now + ARGV[4], ARGV[3])
  redis.call('HSET', KEYS[3], 'owner', ARGV[5], 'epoch', 1)
  redis.call('EXPIRE', KEYS[3], 86400)
  return false
end
return redis.call('GET', KEYS[1])
"""
)
# Only the holder may renew or release: after an expiry another run may hold the lock, another worker the run.
RENEW = (
    _NOW
    + """
local lost = {}
for i = 4, #ARGV, 3 do
  local at = 2 * (i - 4) / 3 + 2
  local epoch = redis.call('HGET', KEYS[at + 1], 'epoch')
  if epoch and epoch ~= ARGV[i + 2] then
    table.insert(lost, ARGV[i])
  else
    if not epoch then
      redis.call('HSET', KEYS[at + 1], 'owner', ARGV[3], 'epoch', ARGV[i + 2])
      redis.call('EXPIRE', KEYS[at + 1], 86400)
    end
    redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[i + 1])
    local holder = redis.call('GET', KEYS[at])
    if holder == false or holder == ARGV[i] then
      redis.call('SET', KEYS[at], ARGV[i], 'EX', ARGV[2])
    end
  end
end
return lost
"""
)
RELEASE = """
local epoch = redis.call('HGET', KEYS[3], 'epoch')
if epoch and epoch ~= ARGV[3] then
  return 0
end
if ARGV[6] ~= '' then
  redis.call('XADD', KEYS[4], '*', ARGV[7], ARGV[6])
end
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
if ARGV[4] == '1' then
  redis.call('ZREM', KEYS[2], ARGV[2])
  if ARGV[3] == '1' then
    redis.call('DEL', KEYS[3])
  else
    redis.call('EXPIRE', KEYS[3], ARGV[5])
  end
end
return 1
"""
TAKE = (
    _NOW
    + """
local until_ = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not until_ or tonumber(until_) > now then
  return {0, 0}
end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
redis.call('HSET', KEYS[2], 'owner', ARGV[2])
redis.call('HSETNX', KEYS[2], 'epoch', 1)
local epoch = redis.call('HINCRBY', KEYS[2], 'epoch', 1)
-- Before anybody reads what was told of it: from here on nothing can be added by whoever had it.
redis.pcall('XADD', KEYS[3], epoch .. '-0', 'e', '')
redis.call('EXPIRE', KEYS[3], 86400, 'NX')
return {epoch, redis.call('HEXISTS', KEYS[2], 'refused')}
"""
)
SURRENDER = _NOW + "return redis.call('ZADD', KEYS[1], 'NX', now - 1, ARGV[1])"
LOST = _NOW + "return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])"
