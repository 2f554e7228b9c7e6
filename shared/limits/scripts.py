"""The scripts by which limits are kept. Each decides and counts in one step.

The hash of what is reserved holds `<run_id>` → `<tokens> <micros> <api key or ->` for every run that is going on, the
sums `tokens`, `micros` and `micros:<api key>`, and `average:tokens`, `average:micros`: what the organization's runs
used lately. A run sets aside that much, and is let in while anything is left beside what others have set aside. A run
whose worker vouches for it no longer gives back what it had set aside. An API key is known by the budget it shares with
the keys it replaced.

The hash of what is spent counts from where PostgreSQL stood (`SEED`): nothing is taken, and nothing settled, before it
says `seeded`.
"""

from shared.limits.buckets import BUCKETS, NOW

# A run's reservation goes. Its parts, or nothing when there was none.
_FORGET = """
local function forget(runs, reserved, run)
  redis.call('ZREM', runs, run)
  local held = redis.call('HGET', reserved, run)
  if not held then return nil end
  local tokens, micros, key = string.match(held, '^(%d+) (%d+) (%S+)$')
  redis.call('HDEL', reserved, run)
  redis.call('HINCRBY', reserved, 'tokens', -tokens)
  redis.call('HINCRBY', reserved, 'micros', -micros)
  if key ~= '-' then redis.call('HINCRBY', reserved, 'micros:' .. key, -micros) end
  return tonumber(tokens), tonumber(micros), key
end
"""

# KEYS: 1 session or API key, 2 grant, 3 generation of the user, 4 of the organization, 5 limits, 6 generation of the
# tiers, 7 of the organization's limits, 8 bucket of the organization, 9 of the caller in it, 10 of the caller
# elsewhere, 11 runs, 12 reserved, 13 spent. ARGV: 1 kind, 2 subject ('' to find it out from the keys), 3 'session' or
# 'key', 4 now as text, 5 organization or '', 6 run, 7 day, 8 lease in ms, 9 rate of a caller elsewhere.
# Answers the values of the first seven keys and the decision as JSON, false when it cannot be taken without asking the
# truth, or with `unseeded` because it is not known what was spent: nothing was counted then.
ADMIT = (
    NOW
    + BUCKETS
    + _FORGET
    + """
local values = redis.call('MGET', unpack(KEYS, 1, 7))
local kind = ARGV[1]

local function given(value) return value ~= nil and value ~= cjson.null end

local function subject()
  if ARGV[2] ~= '' then return cjson.decode(ARGV[2]) end
  if not values[1] or not values[2] then return nil end
  local user_generation, org_generation = tonumber(values[3] or 0), tonumber(values[4] or 0)
  local cached = cjson.decode(values[2])
  local grant = cached.grant
  if cached.user_generation ~= user_generation or cached.org_generation ~= org_generation then return nil end
  if not grant.is_alive then return nil end
  local key = nil
  if ARGV[3] == 'key' then
    local known = cjson.decode(values[1])
    local record = known.record
    if known.user_generation ~= user_generation or not given(record) then return nil end
    if given(record.expires_at) and record.expires_at <= ARGV[4] then return nil end
    if given(record.org_id) and record.org_id ~= ARGV[5] then return {} end
    key = {id = given(record.budget_id) and record.budget_id or record.key_id, budget = record.budget_micros}
  end
  local has_place = given(grant.role) or #(grant.custom or {}) > 0
  if ARGV[5] == '' or grant.org_status ~= 'active' or not has_place then return {} end
  if not values[5] then return nil end
  local limits = cjson.decode(values[5])
  if limits.tiers_generation ~= tonumber(values[6] or 0) or limits.org_generation ~= tonumber(values[7] or 0) then
    return nil
  end
  -- Who looks after the platform does not use up what its organizations may.
  if kind == 'api' and grant.is_sys_admin then return {} end
  return {limits = limits.limits, key = key}
end

local function answer(decision)
  for i = 1, 7 do values[i] = values[i] or false end
  values[8] = decision and cjson.encode(decision) or false
  return values
end

local who = subject()
if not who then return answer(false) end
if kind == 'chat' and given(who.limits) and redis.call('HEXISTS', KEYS[13], 'seeded') == 0 then
  return answer({unseeded = true})
end

-- Every rate is looked at before any is used.
local rates, tightest = {}, nil
local function rate(key, per_minute, burst)
  if not given(per_minute) then return end
  table.insert(rates, bucket(key, per_minute, given(burst) and burst or per_minute))
end
local limits = who.limits
if given(limits) then
  if kind == 'chat' then
    rate(KEYS[8], limits.chats_per_minute)
  else
    rate(KEYS[8], limits.requests_per_minute, limits.request_burst)
  end
  rate(KEYS[9], limits.member_requests_per_minute)
else
  rate(KEYS[10], tonumber(ARGV[9]))
end
for _, one in ipairs(rates) do
  if not tightest or one.tokens < tightest.tokens then tightest = one end
end
local decision = {}
if tightest then
  decision.limit = tightest.burst
  if tightest.tokens < 1 then
    decision.refused, decision.remaining = 'rate', 0
    decision.seconds = seconds_until(tightest, 1)
    return answer(decision)
  end
  for _, one in ipairs(rates) do take(one) end
  decision.remaining = math.floor(tightest.tokens - 1)
  decision.reset = seconds_until(tightest, tightest.burst + 1)
end
if kind ~= 'chat' or not given(limits) then return answer(decision) end

for _, run in ipairs(redis.call('ZRANGEBYSCORE', KEYS[11], '-inf', now)) do forget(KEYS[11], KEYS[12], run) end

local function refused(what, limit, period)
  decision.refused, decision.limit, decision.remaining, decision.period = what, limit, 0, period
  return answer(decision)
end
if given(limits.concurrent_runs) and redis.call('ZCARD', KEYS[11]) >= limits.concurrent_runs then
  return refused('runs', limits.concurrent_runs, 'moment')
end
local day = ARGV[7]
local key = given(who.key) and who.key.id or '-'
local spent = redis.call('HMGET', KEYS[13], 'messages', 'messages:' .. day, 'tokens', 'tokens:' .. day, 'micros',
  'micros:' .. key)
local held = redis.call('HMGET', KEYS[12], 'tokens', 'micros', 'micros:' .. key, 'average:tokens', 'average:micros')
for i = 1, 6 do spent[i] = tonumber(spent[i]) or 0 end
for i = 1, 5 do held[i] = tonumber(held[i]) or 0 end
-- What is over comes back with the day or the month; what others only have set aside, in a moment.
local function is_over(limit, used, set_aside) return given(limit) and used + set_aside >= limit end
local function comes_back(limit, used, period) return used >= limit and period or 'moment' end
local flows = {
  {'messages', limits.messages_per_month, spent[1], 0, 'month'},
  {'messages', limits.messages_per_day, spent[2], 0, 'day'},
  {'tokens', limits.tokens_per_month, spent[3], held[1], 'month'},
  {'tokens', limits.tokens_per_day, spent[4], held[1], 'day'},
  {'budget', limits.budget_micros, spent[5], held[2], 'month'},
}
if given(who.key) then table.insert(flows, {'key budget', who.key.budget, spent[6], held[3], 'month'}) end
for i = 1, 6 do
  local flow = flows[i]
  if flow and is_over(flow[2], flow[3], flow[4]) then
    return refused(flow[1], flow[2], comes_back(flow[2], flow[3], flow[5]))
  end
end
local tokens, micros = math.ceil(held[4]), math.ceil(held[5])
redis.call('ZADD', KEYS[11], now + ARGV[8], ARGV[6])
redis.call('HSET', KEYS[12], ARGV[6], string.format('%.0f %.0f %s', tokens, micros, key))
redis.call('HINCRBY', KEYS[12], 'tokens', tokens)
redis.call('HINCRBY', KEYS[12], 'micros', micros)
if key ~= '-' then redis.call('HINCRBY', KEYS[12], 'micros:' .. key, micros) end
redis.call('HINCRBY', KEYS[13], 'messages', 1)
redis.call('HINCRBY', KEYS[13], 'messages:' .. day, 1)
redis.call('EXPIRE', KEYS[11], 86400)
redis.call('EXPIRE', KEYS[12], 2592000)
redis.call('EXPIRE', KEYS[13], 5356800)
decision.reserved = true
decision.budgeted = given(limits.budget_micros) or (given(who.key) and given(who.key.budget))
return answer(decision)
"""
)

# KEYS: 1 runs, 2 reserved, 3 spent, 4 settled. ARGV: 1 run, 2 tokens and 3 micros ('' for what was set aside), 4 day,
# 5 API key or '-'. Repeating it changes nothing.
SETTLE = (
    _FORGET
    + """
local tokens, micros, key = forget(KEYS[1], KEYS[2], ARGV[1])
if not redis.call('SET', KEYS[4], 1, 'NX', 'EX', 3600) then return 0 end
key = key or ARGV[5]
if ARGV[2] == '' then
  tokens, micros = tokens or 0, micros or 0
else
  tokens, micros = tonumber(ARGV[2]), tonumber(ARGV[3])
  for name, value in pairs({['average:tokens'] = tokens, ['average:micros'] = micros}) do
    local average = tonumber(redis.call('HGET', KEYS[2], name))
    redis.call('HSET', KEYS[2], name, average and average + (value - average) / 8 or value)
  end
end
-- What is not counted here is counted in PostgreSQL, from where this begins anew.
if redis.call('HEXISTS', KEYS[3], 'seeded') == 0 then return 1 end
redis.call('HINCRBY', KEYS[3], 'tokens', string.format('%.0f', tokens))
redis.call('HINCRBY', KEYS[3], 'tokens:' .. ARGV[4], string.format('%.0f', tokens))
redis.call('HINCRBY', KEYS[3], 'micros', string.format('%.0f', micros))
if key ~= '-' then redis.call('HINCRBY', KEYS[3], 'micros:' .. key, string.format('%.0f', micros)) end
redis.call('EXPIRE', KEYS[3], 5356800)
return 1
"""
)

# KEYS: 1 spent, 2 reserved. ARGV: 1 messages, 2 tokens and 3 micros of the month, then names and values of what is
# spent. What a run used on average is guessed from the month. Only the first counts.
SEED = """
if redis.call('HEXISTS', KEYS[1], 'seeded') == 1 then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'seeded', 1)
for i = 4, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('EXPIRE', KEYS[1], 5356800)
local messages = tonumber(ARGV[1])
if messages > 0 then
  redis.call('HSETNX', KEYS[2], 'average:tokens', ARGV[2] / messages)
  redis.call('HSETNX', KEYS[2], 'average:micros', ARGV[3] / messages)
  redis.call('EXPIRE', KEYS[2], 2592000)
end
return 1
"""

# KEYS: 1 runs, 2 reserved, 3 spent. ARGV: 1 run, 2 day. The run did not begin.
GIVE_BACK = (
    _FORGET
    + """
if not forget(KEYS[1], KEYS[2], ARGV[1]) then return 0 end
redis.call('HINCRBY', KEYS[3], 'messages', -1)
redis.call('HINCRBY', KEYS[3], 'messages:' .. ARGV[2], -1)
return 1
"""
)

# KEYS: the runs of one organization for each run. ARGV: 1 lease, then the runs.
VOUCH = (
    NOW
    + """
local places = {}
for i, key in ipairs(KEYS) do
  local words = places[key] or {}
  words[#words + 1] = now + ARGV[1]
  words[#words + 1] = ARGV[i + 1]
  places[key] = words
end
for key, words in pairs(places) do redis.call('ZADD', key, unpack(words)) end
"""
)
