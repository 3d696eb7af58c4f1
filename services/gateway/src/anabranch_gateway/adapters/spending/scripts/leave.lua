-- ARGV: now, id, then accounts.
for i = 3, #ARGV do redis.call('ZREM', P .. ':f:' .. ARGV[i], ARGV[2]) end
return 1
