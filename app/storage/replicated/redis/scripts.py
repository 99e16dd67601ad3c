"""The scripts that run in Redis, each as one step.

Keys: the head, a hash of `n`, `link`, `time` (of the newest entry; microseconds) and `inc` (the incarnation that has
begun); the log, a stream whose ids are `n-0`; the snapshot, a hash of `n` and `link` (of the entry that it ends with),
`place` (what the keys of its chunks begin with, before their numbers) and `count`; and a key that is there while a node
gives a snapshot back. Fields of an entry: `p`, the link of the entry before; `k`, its own;
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
if begun or n ~= tonumber(ARGV[1]) or link ~= ARGV[2] or redis.call('GET', KEYS[4]) then return 0 end
add(ARGV[3], later_than_last(), ARGV[4])
redis.call('HSET', KEYS[1], 'inc', inc)
return 1
"""
)
"""Also when the memory is full. ARGV: number and link of the newest entry; link and data of the entry that
begins the incarnation. Returns 1; 0: the newest entry is another, the incarnation has begun, or a snapshot is being
given back."""

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

_KEEP: Final = """
local function unlink(place, count)
    for i = 0, (tonumber(count) or 0) - 1 do redis.call('UNLINK', place .. i) end
end
local function keep(number, last, place, count)
    for i = 0, count - 1 do
        if redis.call('PERSIST', place .. i) == 0 then return 0 end
    end
    local old = redis.call('HMGET', KEYS[3], 'place', 'count')
    redis.call('HSET', KEYS[3], 'n', number, 'link', last, 'place', place, 'count', count)
    unlink(old[1], old[2])
    return 1
end
"""

SAVE: Final = (
    "#!lua flags=allow-oom"
    + _COMMON
    + _KEEP
    + """
local number, newest = tonumber(ARGV[1]), tonumber(redis.call('HMGET', KEYS[3], 'n')[1]) or 0
if n < number or newest > number then
    unlink(ARGV[3], ARGV[4])
    return 0
end
return keep(number, ARGV[2], ARGV[3], tonumber(ARGV[4]))
"""
)
"""A snapshot counts from here on, and the one before it is removed. ARGV: the fields of its hash. Returns 1; 0: there
is a newer one, or the log has been lost meanwhile, or chunks were away before all were there."""

RESTORE: Final = (
    "#!lua flags=allow-oom"
    + _COMMON
    + _KEEP
    + """
redis.call('UNLINK', KEYS[4])
if begun or n ~= tonumber(ARGV[1]) or link ~= ARGV[2] then
    unlink(ARGV[6], ARGV[7])
    return 0
end
if keep(ARGV[3], ARGV[4], ARGV[6], tonumber(ARGV[7])) == 0 then return 0 end
redis.call('UNLINK', KEYS[2])
redis.call('HSET', KEYS[1], 'n', ARGV[3], 'link', ARGV[4], 'time', ARGV[5])
return 1
"""
)
"""The snapshot takes the place of all entries. ARGV: number and link of the newest entry; then number, link and time of
the entry that the snapshot ends with, and place and count. Returns 1; 0: as BEGIN, or as SAVE."""
