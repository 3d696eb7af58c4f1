-- ARGV: now, lease, then id, reserved or not, number and accounts of each.
local due, i = now + tonumber(ARGV[2]), 3
while i <= #ARGV do
  local id, reserved, number = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  if reserved == '1' then redis.call('ZADD', P .. ':due', 'XX', whole(due), id) end
  for n = 1, number do
    local inside = P .. ':f:' .. ARGV[i + 2 + n]
    redis.call('ZADD', inside, 'XX', whole(due), id)
    redis.call('PEXPIRE', inside, whole(2 * tonumber(ARGV[2]) + DONE_FOR))
  end
  i = i + 3 + number
end
return 1
