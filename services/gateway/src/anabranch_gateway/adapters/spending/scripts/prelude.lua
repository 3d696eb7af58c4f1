-- Shared by all operations. KEYS[1] is a name with a hash tag: every key made here begins with it, so all are in one
-- slot, as they must be for the installation's account to be decided together with a tenant's.
local P = KEYS[1]
local now = tonumber(ARGV[1])  -- milliseconds; 0: the server's own clock, the same for all replicas
if now == 0 then
  local t = redis.call('TIME')
  now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end
local second = math.floor(now / 1000)
local MINUTE = 60
local LOST_FOR = 3600 * 1000   -- how long a late settlement finds its reservation
local DONE_FOR = 120 * 1000    -- how long a repeated call is known

local function whole(n)
  return string.format('%.0f', n)
end

-- Sum of the last minute, by seconds, and of what leaves it first. The oldest second counts in full.
local function minute_of(key)
  local all = redis.call('HGETALL', key)
  local sum, seconds = 0, {}
  for i = 1, #all, 2 do
    local s, n = tonumber(all[i]), tonumber(all[i + 1])
    if s <= second - MINUTE - 1 then
      redis.call('HDEL', key, all[i])
    else
      sum = sum + n
      seconds[#seconds + 1] = { s, n }
    end
  end
  return sum, seconds
end

-- Milliseconds until `excess` has left the minute.
local function wait_for(seconds, excess)
  table.sort(seconds, function(a, b) return a[1] < b[1] end)
  for _, each in ipairs(seconds) do
    excess = excess - each[2]
    if excess <= 0 then
      return math.max(1, (each[1] + MINUTE + 1) * 1000 - now)
    end
  end
  return MINUTE * 1000
end

local function count(key, at, n)
  redis.call('HINCRBY', key, at, whole(n))
  redis.call('PEXPIREAT', key, whole((at + 2 * MINUTE + 2) * 1000))
end

local function budget_key(account, window, start)
  return P .. ':b:' .. window .. ':' .. whole(start) .. ':' .. account
end

-- What is kept of a window: until late settlements are over.
local function until_over(b)
  redis.call('PEXPIREAT', b.key, whole((b.start + b.window) * 1000 + LOST_FOR))
end

local function add(b, spent, reserved)
  if spent ~= 0 then redis.call('HINCRBY', b.key, 's', whole(spent)) end
  if reserved ~= 0 then redis.call('HINCRBY', b.key, 'r', whole(reserved)) end
  until_over(b)
end

local function amounts(b)
  local v = redis.call('HMGET', b.key, 's', 'r')
  return tonumber(v[1] or 0), tonumber(v[2] or 0), v[1] or v[2]
end

local told = {}
local function tell(b, hard, bound, spent, reserved)
  if redis.call('HSETNX', b.key, (hard and 'h' or 'l') .. bound, '1') == 1 then
    until_over(b)
    told[#told + 1] = b.account
    told[#told + 1] = whole(b.window)
    told[#told + 1] = whole(b.start)
    told[#told + 1] = hard and '1' or '0'
    told[#told + 1] = bound
    told[#told + 1] = whole(spent)
    told[#told + 1] = whole(reserved)
  end
end

-- `soft` and `hard` stay the texts they came as: a number put into a text would lose digits.
local function tell_reached(b, spent, reserved)
  if b.soft ~= '0' and spent + reserved >= tonumber(b.soft) then tell(b, false, b.soft, spent, reserved) end
  if b.hard ~= '-1' and spent + reserved >= tonumber(b.hard) then tell(b, true, b.hard, spent, reserved) end
end

local function reservation(id)
  local packed = redis.call('GET', P .. ':c:' .. id)
  return packed and cmsgpack.unpack(packed)
end

local function keep(id, record, ttl)
  redis.call('SET', P .. ':c:' .. id, cmsgpack.pack(record), 'PX', whole(ttl))
end

-- Lost reservations: from reserved to spent. The sum stays, so nothing is let through or kept out by it.
local function expire()
  local lost = 0
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. ':due', '-inf', whole(now), 'LIMIT', '0', '16')) do
    redis.call('ZREM', P .. ':due', id)
    local record = reservation(id)
    if record and record.state == 'open' then
      for _, b in ipairs(record.budgets) do
        if redis.call('EXISTS', b.key) == 1 then add(b, record.micros, -record.micros) end
      end
      record.state = 'lost'
      keep(id, record, LOST_FOR)
      lost = lost + 1
    end
  end
  return lost
end

-- Budgets as arguments from `at`: number, then account, window, soft, hard of each.
local function budgets_from(at)
  local budgets, number = {}, tonumber(ARGV[at])
  for i = 0, number - 1 do
    local a = at + 1 + i * 4
    local window = tonumber(ARGV[a + 1])
    local start = math.floor(second / window) * window
    budgets[i + 1] = {
      account = ARGV[a], window = window, start = start, soft = ARGV[a + 2], hard = ARGV[a + 3],
      key = budget_key(ARGV[a], whole(window), start),
    }
  end
  return budgets, at + 1 + number * 4
end

-- Token limits likewise: number, then account and limit of each.
local function tokens_from(at)
  local limits, number = {}, tonumber(ARGV[at])
  for i = 0, number - 1 do
    local a = at + 1 + i * 2
    limits[i + 1] = { account = ARGV[a], limit = tonumber(ARGV[a + 1]), key = P .. ':t:' .. ARGV[a], second = second }
  end
  return limits
end
