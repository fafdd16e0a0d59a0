"""What Redis does in one step: Lua, each touching the keys of one log, or one key.

A log is a hash (`meta`) and a stream. Each flush is one entry of the stream, whose id is the number of its last record: the first
entry from `after + 1` on is the one that holds this record. Answers are numbers, or a list.

Whatever is sent again because nobody knows what came of it does no harm, and writes something even so: who waits for this
connection's writes to be on disk, or on a replica, waits for those of the first try as well.

In a cluster a slot may be on its way to another node: a script that names keys of which some are there and some are not, or were
never, waits then until all of the slot has come. What is asked of a log while it lives names no key that is usually missing.
"""

from __future__ import annotations

from hashlib import sha1
from typing import Final

OPEN: Final = """
-- KEYS meta stream tomb; ARGV owner head principal key count block ttl channel epoch call. 1, or 0: there is one
if redis.call('EXISTS', KEYS[1], KEYS[3]) > 0 then
  local m = redis.call('HMGET', KEYS[1], 'call', 'owner')
  if m[1] ~= ARGV[10] or m[2] ~= ARGV[1] then return 0 end
  redis.call('EXPIRE', KEYS[1], ARGV[7])
  return 1
end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'epoch', ARGV[9], 'last', ARGV[5], 'head', ARGV[2], 'principal', ARGV[3],
  'key', ARGV[4], 'ended', 0, 'call', ARGV[10])
if ARGV[9] ~= '1' then redis.call('HSET', KEYS[1], 'lost', ARGV[5], 'lost_epoch', ARGV[9]) end
if tonumber(ARGV[5]) > 0 then redis.call('XADD', KEYS[2], ARGV[5] .. '-0', 'b', ARGV[6]) end
redis.call('EXPIRE', KEYS[1], ARGV[7])
redis.call('EXPIRE', KEYS[2], ARGV[7])
tell(ARGV[8], '')
return 1
"""

APPEND: Final = """
-- KEYS meta stream; ARGV owner epoch ttl channel after block count flags head
-- flags: e it ends, h it has a head, t the keys are to live for ttl from now on, s sure of what it had stored
-- 1 stored, 0 gone, -1 conflict, -2 lost: it was sure, and finds less; the log goes on under a new epoch
local m = redis.call('HMGET', KEYS[1], 'owner', 'epoch', 'last', 'ended')
if not m[1] then return 0 end
local mine, after, flags = m[1] == ARGV[1] and m[2] == ARGV[2], ARGV[5], ARGV[8]
local less = mine and m[3] ~= after and tonumber(m[3]) < tonumber(after)
if (less or tonumber(m[2]) < tonumber(ARGV[2])) and m[4] ~= '1' and string.find(flags, 's', 1, true) then
  local lost = math.min(tonumber(m[3]), tonumber(redis.call('HGET', KEYS[1], 'lost') or m[3]))
  local epoch = string.format('%d', tonumber(ARGV[2]) + 1)
  redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'epoch', epoch, 'lost', string.format('%d', lost), 'lost_epoch', epoch)
  redis.call('HDEL', KEYS[1], 'was', 'due', 'call')
  tell(ARGV[4], '')
  return -2
end
if not mine then return -1 end
local ends = string.find(flags, 'e', 1, true)
if m[4] == '1' or m[3] ~= after then
  local last = string.format('%d', tonumber(after) + tonumber(ARGV[7]))
  if m[3] ~= last or (ends and m[4] ~= '1') then return -1 end
  local stored = ARGV[6] ~= '' and redis.call('XRANGE', KEYS[2], last, last)[1]
  if ARGV[6] == '' and not ends or stored == nil or stored and stored[2][2] ~= ARGV[6] then return -1 end
  redis.call('EXPIRE', KEYS[1], ARGV[3])
  return 1
end
local last = after
if ARGV[6] ~= '' then
  last = string.format('%d', tonumber(after) + tonumber(ARGV[7]))
  redis.call('XADD', KEYS[2], last .. '-0', 'b', ARGV[6])
end
redis.call('HSET', KEYS[1], 'last', last)
if flags ~= 's' then
  if ends then redis.call('HSET', KEYS[1], 'ended', 1) end
  if string.find(flags, 'h', 1, true) then redis.call('HSET', KEYS[1], 'head', ARGV[9]) end
  if string.find(flags, 't', 1, true) then
    redis.call('EXPIRE', KEYS[1], ARGV[3])
    redis.call('EXPIRE', KEYS[2], ARGV[3])
  end
end
tell(ARGV[4], '')
return 1
"""

POST: Final = """
-- KEYS meta stream; ARGV block ttl channel call mark. The number, or -1: the log has an owner
-- mark: what is added once has a field of this name, with its number; '' for what may be added again
local m = redis.call('HMGET', KEYS[1], 'owner', 'call', 'last', ARGV[5])
if m[1] then return -1 end
if m[2] == ARGV[4] or m[4] then
  redis.call('EXPIRE', KEYS[1], ARGV[2])
  return tonumber(m[4] or m[3])
end
local last = redis.call('HINCRBY', KEYS[1], 'last', 1)
redis.call('HSET', KEYS[1], 'call', ARGV[4])
if ARGV[5] ~= '' then redis.call('HSET', KEYS[1], ARGV[5], last) end
redis.call('XADD', KEYS[2], last .. '-0', 'b', ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
redis.call('EXPIRE', KEYS[2], ARGV[2])
tell(ARGV[3], '')
return last
"""

READ: Final = """
-- KEYS meta stream; ARGV after limit. {last, ended, {id, block, …}}, or 0: it is not there
local m = redis.call('HMGET', KEYS[1], 'last', 'ended')
if not m[1] then return 0 end
local found, size, from = {}, 0, string.format('%d-0', tonumber(ARGV[1]) + 1)
while size <= tonumber(ARGV[2]) do
  local entries = redis.call('XRANGE', KEYS[2], from, '+', 'COUNT', 16)
  for _, entry in ipairs(entries) do
    found[#found + 1] = entry[1]
    found[#found + 1] = entry[2][2]
    size = size + #entry[2][2]
    from = '(' .. entry[1]
    if size > tonumber(ARGV[2]) then break end
  end
  if #entries < 16 then break end
end
return {m[1], m[2] or '0', found}
"""

DROP: Final = """
-- KEYS meta stream tomb; ARGV channel tomb_ttl (0: it leaves no trace) fence. {principal, key, owner, was}
local m = redis.call('HMGET', KEYS[1], 'principal', 'key', 'owner', 'was')
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
if ARGV[2] ~= '0' then redis.call('SET', KEYS[3], 1, 'EX', ARGV[2]) end
tell(ARGV[1], '')
tell(ARGV[3], '')
return {m[1] or '', m[2] or '', m[3] or '', m[4] or ''}
"""

FORBID: Final = """
-- KEYS meta tomb; ARGV ttl. 1: nobody opens this log any more; 0: somebody has
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('SET', KEYS[2], 1, 'EX', ARGV[1])
return 1
"""

FENCE: Final = """
-- KEYS meta; ARGV owner channel fence: a dead owner's log is nobody's until somebody takes it. The owner is told: it may live
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] or redis.call('HGET', KEYS[1], 'ended') == '1' then return 0 end
redis.call('HSET', KEYS[1], 'owner', '', 'was', ARGV[1])
tell(ARGV[2], '')
tell(ARGV[3], '')
return 1
"""

PARK: Final = """
-- KEYS meta; ARGV owner epoch after due ttl channel. 1: the log is nobody's, and nobody is dead for it; 0: it is not ours
local m = redis.call('HMGET', KEYS[1], 'owner', 'epoch', 'last', 'ended', 'call')
local call = 'park ' .. ARGV[1] .. ' ' .. ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. ARGV[4]
if m[1] == '' and m[5] == call then
  redis.call('EXPIRE', KEYS[1], ARGV[5])
  return 1
end
if m[1] ~= ARGV[1] or m[2] ~= ARGV[2] or m[3] ~= ARGV[3] or m[4] == '1' then return 0 end
redis.call('HSET', KEYS[1], 'owner', '', 'due', ARGV[4], 'call', call)
redis.call('EXPIRE', KEYS[1], ARGV[5])
tell(ARGV[6], '')
return 1
"""

DEFER: Final = """
-- KEYS meta; ARGV seen due ttl call. 1: the log, which is parked, is due then; 0: it is not parked, or is due at another time
local m = redis.call('HMGET', KEYS[1], 'due', 'deferred')
if m[1] and m[2] == ARGV[4] then
  redis.call('EXPIRE', KEYS[1], ARGV[3])
  return 1
end
if not m[1] or m[1] ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'due', ARGV[2], 'deferred', ARGV[4])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""

TAKE: Final = """
-- KEYS meta stream; ARGV was owner epoch after count block ended has_head head ttl channel call due
-- 1, or 0: somebody else was first. `was` is '' of a log that is parked; with `due` it is parked, and not the owner's
local m = redis.call('HMGET', KEYS[1], 'owner', 'was', 'epoch', 'last', 'ended', 'call')
if m[6] == ARGV[12] then
  redis.call('EXPIRE', KEYS[1], ARGV[10])
  return 1
end
if m[1] ~= '' or (m[2] or '') ~= ARGV[1] or m[4] ~= ARGV[4] or m[5] == '1' then return 0 end
if tonumber(m[3]) + 1 ~= tonumber(ARGV[3]) then return 0 end
local last = string.format('%d', tonumber(ARGV[4]) + tonumber(ARGV[5]))
if ARGV[5] ~= '0' then redis.call('XADD', KEYS[2], last .. '-0', 'b', ARGV[6]) end
redis.call('HDEL', KEYS[1], 'was', 'due', 'deferred')
redis.call('HSET', KEYS[1], 'owner', ARGV[13] == '' and ARGV[2] or '', 'epoch', ARGV[3], 'last', last, 'ended', ARGV[7],
  'call', ARGV[12])
if ARGV[13] ~= '' then redis.call('HSET', KEYS[1], 'due', ARGV[13]) end
if ARGV[8] == '1' then redis.call('HSET', KEYS[1], 'head', ARGV[9]) end
redis.call('EXPIRE', KEYS[1], ARGV[10])
redis.call('EXPIRE', KEYS[2], ARGV[10])
tell(ARGV[11], '')
return 1
"""

MEND: Final = """
-- KEYS meta; ARGV last ttl: a log that many post to has lost its last records; their numbers are not given again
if redis.call('HEXISTS', KEYS[1], 'owner') == 1 then return 0 end
if tonumber(redis.call('HGET', KEYS[1], 'last') or '0') >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'last', ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
"""

REVIVE: Final = """
-- KEYS beat; ARGV ttl. 1: we had been declared dead, and live again
if redis.call('GET', KEYS[1]) ~= 'dead' then return 0 end
redis.call('SET', KEYS[1], 1, 'EX', ARGV[1])
return 1
"""

BEAT: Final = """
-- KEYS beat; ARGV ttl. 0: somebody has declared us dead
if redis.call('GET', KEYS[1]) == 'dead' then return 0 end
redis.call('INCR', KEYS[1])
redis.call('EXPIRE', KEYS[1], ARGV[1])
return 1
"""

BURY: Final = """
-- KEYS beat held; ARGV seen ttl. What it held when it was declared dead, or since; 0: it has beaten
local now = redis.call('GET', KEYS[1])
if now and now ~= 'dead' and now ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], 'dead', 'EX', ARGV[2])
return redis.call('SMEMBERS', KEYS[2])
"""

LEAVE: Final = """
-- KEYS beat held; ARGV logs: a dead owner holds them no more. One that lives again may have taken them anew. 1, or 0: it lives
if redis.call('GET', KEYS[1]) ~= 'dead' then return 0 end
redis.call('SREM', KEYS[2], unpack(ARGV))
return 1
"""

FORGET_OWNER: Final = """
-- KEYS beat held: one that is dead and holds nothing. 1, or 0: it lives, or holds something
if redis.call('GET', KEYS[1]) ~= 'dead' or redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
redis.call('DEL', KEYS[1])
return 1
"""

CLAIM: Final = """
-- KEYS claim; ARGV value instead ttl. The value that stands; `instead` is the one that may be replaced
local now = redis.call('GET', KEYS[1])
if now and now ~= ARGV[2] then return now end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[3])
return ARGV[1]
"""

FORGET: Final = """
-- KEYS claim; ARGV log: delete the claim of this log
local now = redis.call('GET', KEYS[1])
if now and string.sub(now, 1, #ARGV[1] + 1) == ARGV[1] .. '\\n' then redis.call('DEL', KEYS[1]) end
return 1
"""

ALL: Final = (
    OPEN, APPEND, POST, READ, DROP, FORBID, FENCE, PARK, DEFER, TAKE, MEND, REVIVE, BEAT, BURY, LEAVE, FORGET_OWNER, CLAIM, FORGET
)  # fmt: skip
TELL: Final = """
local function tell(channel, said)
  redis.call(string.sub(channel, -6) == ':shard' and 'SPUBLISH' or 'PUBLISH', channel, said)
end
"""
"""What stands before every script. A channel's name says how far it is heard: see `keys`."""
TEXTS: Final = {script: TELL + script for script in ALL}
SHA: Final = {script: sha1(text.encode(), usedforsecurity=False).hexdigest() for script, text in TEXTS.items()}
