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
local now_in = {}
for place, b in ipairs(budgets) do
  local spent, reserved, there = amounts(b)
  now_in[place] = { spent, reserved, there }
  if b.hard ~= '-1' and micros > 0 then
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
  for place, b in ipairs(micros > 0 and budgets or {}) do
    local spent, reserved, there = unpack(now_in[place], 1, 3)
    redis.call('HINCRBY', b.key, 'r', whole(micros))
    if not there then until_over(b) end
    tell_reached(b, spent, reserved + micros)
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
