-- ARGV: now, id. One that comes later is refused: its caller has given up.
local id = ARGV[2]
local record = reservation(id)
if record and (record.state == 'open' or record.state == 'lost') then
  for _, b in ipairs(record.budgets) do
    if record.state == 'open' then add(b, 0, -record.micros) else add(b, -record.micros, 0) end
  end
  for _, each in ipairs(record.limits) do
    if record.tokens > 0 and each.second > second - MINUTE - 1 then count(each.key, each.second, -record.tokens) end
  end
end
redis.call('ZREM', P .. ':due', id)
if not record or record.state ~= 'done' then keep(id, { state = 'released' }, DONE_FOR) end
return 1
