-- ARGV: now, id, lease, micros, tokens, budgets, token limits. Gives made or not, reason, account, window, wait, lost, then
-- what was told.
local id, lease, micros, tokens = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local lost = expire()
local before = reservation(id)
if before then
  if before.state == 'released' then return { 0, 'OVER', '', 0, 0, lost } end
  return { 1, '', '', 0, 0, lost }
end
local budgets, next_arg = budgets_from(6)
local limits = tokens_from(next_arg)

local refusal, longest = nil, -1
for _, b in ipairs(budgets) do
  if b.hard ~= '-1' and micros > 0 then
    local v = redis.call('HMGET', b.key, 's', 'r')
    local spent, reserved = tonumber(v[1] or 0), tonumber(v[2] or 0)
    if spent + reserved + micros > tonumber(b.hard) then
      -- What is reserved may come back any moment; what is spent stays until the window ends.
      local wait = spent + micros <= tonumber(b.hard) and 1000 or math.max(1, (b.start + b.window) * 1000 - now)
      if wait > longest then
        refusal, longest = { 0, 'BUDGET', b.account, b.window, wait, lost }, wait
      end
      tell(b, true, b.hard, spent, reserved)
    end
  end
end
if not refusal and tokens > 0 then
  for _, each in ipairs(limits) do
    local sum, seconds = minute_of(each.key)
    if sum + tokens > each.limit then
      local wait = wait_for(seconds, sum + tokens - each.limit)
      if wait > longest then
        refusal, longest = { 0, 'TOKENS', each.account, MINUTE, wait, lost }, wait
      end
    end
  end
end
if not refusal then
  for _, b in ipairs(budgets) do
    add(b, 0, micros)
    tell_reached(b)
  end
  for _, each in ipairs(limits) do
    if tokens > 0 then count(each.key, second, tokens) end
  end
  keep(id, { state = 'open', micros = micros, tokens = tokens, budgets = budgets, limits = limits }, lease + LOST_FOR)
  redis.call('ZADD', P .. ':due', whole(now + lease), id)
  redis.call('PEXPIRE', P .. ':due', whole(lease + LOST_FOR))
end
local reply = refusal or { 1, '', '', 0, 0, lost }
for _, each in ipairs(told) do reply[#reply + 1] = each end
return reply
