-- ARGV: now, id, micros, tokens (-1, -1: as reserved), budgets, token limits. Gives what was told.
local id, micros, tokens = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local record = reservation(id)
if not record then
  -- The ledger has never heard of it, or has forgotten it: written down as spent, where it would be reserved now.
  local budgets, next_arg = budgets_from(5)
  record = { state = 'new', micros = 0, tokens = 0, budgets = budgets, limits = tokens_from(next_arg) }
elseif record.state == 'done' or record.state == 'released' then
  return told
end
if micros < 0 then micros, tokens = record.micros, record.tokens end
for _, b in ipairs(record.budgets) do
  if record.state == 'open' then
    add(b, micros, -record.micros)
  else
    add(b, micros - record.micros, 0)
  end
  tell_reached(b, amounts(b))
end
for _, each in ipairs(record.limits) do
  if tokens ~= record.tokens and each.second > second - MINUTE - 1 then count(each.key, each.second, tokens - record.tokens) end
end
redis.call('ZREM', P .. ':due', id)
keep(id, { state = 'done' }, DONE_FOR)
return told
