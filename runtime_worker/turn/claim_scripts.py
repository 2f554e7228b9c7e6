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
  return {false, redis.call('GET', KEYS[4])}
end
return {redis.call('GET', KEYS[1]), redis.call('GET', KEYS[4])}
"""
)
# Only the holder may renew or release: after an expiry another run may hold the lock, another worker the run.
# One command for many runs wherever there is one: with thousands of them calling is what costs.
RENEW = (
    _NOW
    + """
local lost, vouched, locks = {}, {}, {}
for at = 2, #KEYS, 2 do
  locks[#locks + 1] = KEYS[at]
end
local holders = redis.call('MGET', unpack(locks))
for run, holder in ipairs(holders) do
  local i, record = 3 * run + 2, KEYS[2 * run + 1]
  local epoch = redis.call('HGET', record, 'epoch')
  if epoch and epoch ~= ARGV[i + 2] then
    lost[#lost + 1] = ARGV[i]
  else
    if not epoch then
      redis.call('HSET', record, 'owner', ARGV[3], 'epoch', ARGV[i + 2])
      redis.call('EXPIRE', record, 86400)
    end
    vouched[#vouched + 1] = now + ARGV[1]
    vouched[#vouched + 1] = ARGV[i + 1]
    if holder == false or (ARGV[4] == '1' and holder == ARGV[i]) then
      redis.call('SET', locks[run], ARGV[i], 'EX', ARGV[2])
    end
  end
end
if #vouched > 0 then
  redis.call('ZADD', KEYS[1], unpack(vouched))
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
  redis.call('SET', KEYS[5], ARGV[1], 'EX', ARGV[8])
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
