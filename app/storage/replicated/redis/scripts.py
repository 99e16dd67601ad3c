"""The scripts that run in Redis, each as one step.

Keys: the head, a hash of `n`, `link`, `time` (of the newest entry; microseconds) and `inc` (the incarnation that has
begun); and the log, a stream whose ids are `n-0`. Fields of an entry: `p`, the link of the entry before; `k`, its own;
`t`, its time; `d`, its commands. An incarnation is the process and its term as the primary, which the scripts ask for
each time: a connection can outlive a demotion.
"""

from typing import Final

_COMMON: Final = """
local info = redis.call('INFO', 'server', 'replication')
local inc = info:match('run_id:(%w+)') .. '.' .. info:match('master_replid:(%w+)')
local head = redis.call('HMGET', KEYS[1], 'n', 'link', 'time', 'inc')
local n, link, last, begun = tonumber(head[1]) or 0, head[2] or '', tonumber(head[3]) or 0, head[4] == inc
local function later_than_last()
    local now = redis.call('TIME')
    return math.max(now[1] * 1000000 + now[2], last)
end
local function add(own, time, data)
    n = n + 1
    local t = string.format('%.0f', time)
    redis.call('XADD', KEYS[2], n .. '-0', 'p', link, 'k', own, 't', t, 'd', data)
    redis.call('HSET', KEYS[1], 'n', n, 'link', own, 'time', t)
    link, last = own, time
end
"""

APPEND: Final = (
    "#!lua"
    + _COMMON
    + """
if not begun then return 0 end
add(ARGV[1], later_than_last(), ARGV[2])
return 1
"""
)
"""ARGV: link, data. Returns 1; 0: the incarnation has not begun, nothing was appended."""

HEAD: Final = (
    "#!lua flags=no-writes"
    + _COMMON
    + """
return {n, link, begun and 1 or 0}
"""
)
"""Returns number and link of the newest entry, and whether the incarnation has begun."""

BEGIN: Final = (
    "#!lua flags=allow-oom"
    + _COMMON
    + """
if begun or n ~= tonumber(ARGV[1]) or link ~= ARGV[2] then return 0 end
add(ARGV[3], later_than_last(), ARGV[4])
redis.call('HSET', KEYS[1], 'inc', inc)
return 1
"""
)
"""Also when the memory is full. ARGV: number and link of the newest entry; link and data of the entry that
begins the incarnation. Returns 1; 0: the newest entry is another, or the incarnation has begun."""

HEAL: Final = (
    "#!lua flags=allow-oom"
    + _COMMON
    + """
if begun or n ~= tonumber(ARGV[1]) or link ~= ARGV[2] then return 0 end
for i = 3, #ARGV, 3 do add(ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2]) end
return 1
"""
)
"""ARGV: number and link of the newest entry; then link, time and data of each entry that is missing. Returns as BEGIN.
"""

SAVE: Final = """#!lua flags=allow-oom
local known = redis.call('HMGET', KEYS[1], 'n', 'place', 'count')
local place, count = ARGV[3], tonumber(ARGV[4])
local function unlink(first, number)
    for i = 0, number - 1 do redis.call('UNLINK', first .. i) end
end
if known[1] and tonumber(known[1]) > tonumber(ARGV[1]) then
    unlink(place, count)
    return 0
end
for i = 0, count - 1 do
    if redis.call('PERSIST', place .. i) == 0 then return 0 end
end
redis.call('HSET', KEYS[1], 'n', ARGV[1], 'link', ARGV[2], 'place', place, 'count', count)
if known[2] then unlink(known[2], tonumber(known[3])) end
return 1
"""
"""A snapshot counts from here on, and the one before it is removed. Key: a hash of `n` and `link` (of the entry that it
ends with), `place` (what the keys of its chunks begin with, before their numbers) and `count`. ARGV: the same four.
Returns 1; 0: there is a newer one, or the chunks were away before all were there."""
