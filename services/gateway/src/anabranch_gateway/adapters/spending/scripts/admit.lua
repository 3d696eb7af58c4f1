-- ARGV: now, id, lease, number, then account, requests and in flight (-1: no bound) of each.
local id, lease, number = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local once = P .. ':a:' .. id
if redis.call('EXISTS', once) == 1 then return { 1 } end
local plan = {}
for i = 0, number - 1 do
  local a = 5 + i * 3
  local account, requests, places = ARGV[a], tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2])
  local each = { requests = requests, places = places, rate = P .. ':q:' .. account, inside = P .. ':f:' .. account }
  if requests >= 0 then
    local sum, seconds = minute_of(each.rate)
    if sum + 1 > requests then
      return { 0, 'RATE', account, MINUTE, wait_for(seconds, sum + 1 - requests) }
    end
  end
  if places >= 0 then
    redis.call('ZREMRANGEBYSCORE', each.inside, '-inf', whole(now))
    if redis.call('ZCARD', each.inside) >= places then return { 0, 'IN_FLIGHT', account, 0, 1000 } end
  end
  plan[i + 1] = each
end
for _, each in ipairs(plan) do
  if each.requests >= 0 then count(each.rate, second, 1) end
  if each.places >= 0 then
    redis.call('ZADD', each.inside, whole(now + lease), id)
    redis.call('PEXPIRE', each.inside, whole(2 * lease + DONE_FOR))
  end
end
redis.call('SET', once, '1', 'PX', whole(DONE_FOR))
return { 1 }
