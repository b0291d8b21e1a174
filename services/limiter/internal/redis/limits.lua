-- The one script of the limiter. It decides like the model in internal/bucket, and tests compare
-- every answer with it: read that package first, this is the same on packed strings.
--
-- ARGV[1] is the operation, KEYS[1] the closed key of the queue.
--   acquire  KEYS: closed, reserved, expiry, state, [share's state]
--            ARGV: scopes, (messages, burst, requests, tokens) per scope, ttl in us, 1 if who
--                  asks waits, (messages, requests, tokens, reservation) per want
--            -> now, granted, wait in us, turn in us, metric, (remaining, reset in us) per
--               metric, expired
--   settle   KEYS as above; ARGV: scopes and limits as above, reservation, used
--            -> now, found, taken, at
--   usage    KEYS: closed, state -> now, closed ms, (used, refused) per metric
--   close    KEYS: closed; ARGV: ms, reason -> now, closed ms
--   closed   KEYS: closed -> now, closed ms
--
-- A state is version (1 byte), moment of the last call (7), set of metrics (1), moment of the next
-- turn (7), and for each metric head (1), running slot (3, for tokens 4), sum (5), refused (3), for
-- messages the level of the bucket (7), and the ring of the older slots (3 or 4 each). Numbers are
-- big-endian. The ring turns: at its head is the oldest slot, before it the youngest.

local byte, char, sub, rep = string.byte, string.char, string.sub, string.rep
local floor, ceil, min, max = math.floor, math.ceil, math.min, math.max

local MICRO, MINUTE = 1000000, 60000000
local VERSION = 1
local MESSAGES, TOKENS, CLOSED = 1, 3, 5 -- indexes of metrics are those of the model, plus one
local SLOTS = { 50, 24, 24 }
local WIDTH = { 20000, 2500000, 2500000 }
local CELL = { 3, 3, 4 }
local CELL_FORMAT = { '>I3', '>I3', '>I4' }
local STATE_FORMAT = '>I1I7I1I7'
local METRIC_FORMAT = { '>I1I3I5I3I7', '>I1I3I5I3', '>I1I4I5I3' }
local MOST = { 16777215, 16777215, 4294967295 }
local FEW, CALM, TURNS = 8, 20000, 8 -- see the model
local SWEEP = 16 -- dead reservations that one call clears away
local KEEP = 600000 -- ms for which a reservation outlives its time, for that call to come, and
-- the longest time that turns alone keep a state: they reach as far only when the clock went back

-- read and write convert records of whole numbers; the digits of a format are their lengths in
-- bytes. Redis brings a library for that. Its stand-in does not, and there loops do it.
local read, write
if rawget(_G, 'struct') then
  read, write = struct.unpack, struct.pack
else
  read = function(format, s, at)
    local out = {}
    for n in string.gmatch(format, '%d') do
      local v = 0
      for i = at, at + n - 1 do v = v * 256 + byte(s, i) end
      out[#out + 1] = v
      at = at + n
    end
    return unpack(out)
  end
  write = function(format, ...)
    local out = {}
    for n in string.gmatch(format, '%d') do
      local v, bytes = (select(#out + 1, ...)), {}
      for i = tonumber(n), 1, -1 do
        bytes[i] = v % 256
        v = floor(v / 256)
      end
      out[#out + 1] = char(unpack(bytes))
    end
    return table.concat(out)
  end
end

local function int(v) return string.format('%.0f', v) end

local function ceilDiv(a, b) return floor((a + b - 1) / b) end

-- One metric: {ring, head, cur (the running slot), sum, refused, level}

local function fresh(m)
  return { ring = rep('\0', SLOTS[m] * CELL[m]), head = 0, cur = 0, sum = 0, refused = 0 }
end

local function cell(w, m, i) return (read(CELL_FORMAT[m], w.ring, i * CELL[m] + 1)) end

local function setCell(w, m, i, v)
  local c = CELL[m]
  w.ring = sub(w.ring, 1, i * c) .. write(CELL_FORMAT[m], v) .. sub(w.ring, (i + 1) * c + 1)
end

local function slot(w, m, age)
  if age == 0 then return w.cur end
  return cell(w, m, (w.head - age) % SLOTS[m])
end

local function add(w, m, n)
  n = min(n, MOST[m] - w.cur)
  w.cur = w.cur + n
  w.sum = w.sum + n
end

local function advanceWindow(w, m, last, now)
  local n, width = SLOTS[m], WIDTH[m]
  local steps = floor(now / width) - floor(last / width)
  if now < last then
    steps = 0
    if now % width > last % width then steps = -1 end
  end
  if steps < 0 then
    local youngest = w.cur
    w.head = (w.head - 1) % n
    w.cur = cell(w, m, w.head)
    w.sum = w.sum - youngest
    setCell(w, m, w.head, 0)
    add(w, m, youngest)
  elseif steps > n then
    w.ring = rep('\0', n * CELL[m])
    w.head, w.cur, w.sum = 0, 0, 0
  else
    for _ = 1, steps do
      local oldest = cell(w, m, w.head)
      w.sum = w.sum - oldest
      if oldest ~= w.cur then setCell(w, m, w.head, w.cur) end
      w.head = (w.head + 1) % n
      w.cur = 0
    end
  end
end

-- expiry is how long until the slot of that age is forgotten.
local function expiry(m, now, age) return (SLOTS[m] + 1 - age) * WIDTH[m] - now % WIDTH[m] end

local function windowWait(w, m, now, n, limit)
  local excess = w.sum + n - limit
  if excess <= 0 then return 0 end
  for age = SLOTS[m], 1, -1 do
    excess = excess - slot(w, m, age)
    if excess <= 0 then return expiry(m, now, age) end
  end
  return expiry(m, now, 0)
end

local function give(w, m, now, at, n)
  local age = max(0, floor(now / WIDTH[m]) - floor(at / WIDTH[m]))
  if age > SLOTS[m] then return end
  local v = slot(w, m, age)
  n = min(n, v)
  if age == 0 then w.cur = v - n else setCell(w, m, (w.head - age) % SLOTS[m], v - n) end
  w.sum = w.sum - n
end

local function windowReset(w, m, now)
  if w.sum == 0 then return 0 end
  for age = 0, SLOTS[m] do
    if slot(w, m, age) > 0 then return expiry(m, now, age) end
  end
  return 0
end

-- The state of a queue.

local function load(key)
  local q = { last = 0, turn = 0 }
  local s = redis.call('GET', key)
  if not s or byte(s, 1) ~= VERSION then return q end
  local _, last, set, turn = read(STATE_FORMAT, s, 1)
  q.last, q.turn = last, turn
  local at = 17
  for m = 1, 3 do
    if floor(set / 2 ^ (m - 1)) % 2 == 1 then
      local w = {}
      w.head, w.cur, w.sum, w.refused, w.level = read(METRIC_FORMAT[m], s, at)
      at = at + 9 + CELL[m] + (m == MESSAGES and 7 or 0)
      local size = SLOTS[m] * CELL[m]
      w.ring = sub(s, at, at + size - 1)
      at = at + size
      q[m] = w
    end
  end
  return q
end

local function save(key, q, ttl)
  local set, parts = 0, { '' }
  for m = 1, 3 do
    local w = q[m]
    if w then
      set = set + 2 ^ (m - 1)
      parts[#parts + 1] = write(METRIC_FORMAT[m], w.head, w.cur, w.sum, w.refused, w.level)
      parts[#parts + 1] = w.ring
    end
  end
  parts[1] = write(STATE_FORMAT, VERSION, q.last, set, q.turn)
  redis.call('SET', key, table.concat(parts), 'PX', int(ttl))
end

local function advance(q, now, l)
  local sameMinute = floor(now / MINUTE) == floor(q.last / MINUTE)
  for m = 1, 3 do
    local w = q[m]
    if w then
      advanceWindow(w, m, q.last, now)
      if not sameMinute then w.refused = 0 end
    elseif l[m] > 0 then
      q[m] = fresh(m)
    end
  end
  local w = q[MESSAGES]
  if w and l[MESSAGES] > 0 then
    local full, elapsed = l.capacity * MICRO, now - q.last
    if not w.level or w.level >= full or elapsed >= ceilDiv(full - w.level, l[MESSAGES]) then
      w.level = full
    elseif elapsed > 0 then
      w.level = w.level + elapsed * l[MESSAGES]
    end
  end
  q.last = now
end

local function metricWait(s, m, now, want)
  local n, limit, w = want[m], s.limits[m], s.queue[m]
  if n == 0 or limit == 0 then return 0 end
  if m == TOKENS then return windowWait(w, m, now, min(n, limit), limit) end
  if m ~= MESSAGES then return windowWait(w, m, now, n, limit) end
  local missing, wait = n * MICRO - w.level, 0
  if missing > 0 then wait = ceilDiv(missing, limit) end
  if s.limits.burst == 0 then wait = max(wait, windowWait(w, m, now, n, limit)) end
  return wait
end

local function take(s, want)
  for m = 1, 3 do
    local n, limit, w = want[m], s.limits[m], s.queue[m]
    if limit > 0 then
      if m == TOKENS then n = min(n, limit) end
      if m == MESSAGES then w.level = w.level - n * MICRO end
      add(w, m, n)
    end
  end
end

local function room(s, m, now)
  local w, limit = s.queue[m], s.limits[m]
  local remaining, reset = max(0, limit - w.sum), windowReset(w, m, now)
  if m ~= MESSAGES then return remaining, reset end
  local held, full = floor(w.level / MICRO), ceilDiv(s.limits.capacity * MICRO - w.level, limit)
  if s.limits.burst > 0 then return held, full end
  return min(held, remaining), max(full, reset)
end

-- Reservations: a hash of "at taken" by name, and a sorted set of names by the end of their life.

local function settleScopes(scopes, now, at, taken, used)
  for _, s in ipairs(scopes) do
    local w, limit = s.queue[TOKENS], s.limits[TOKENS]
    if w and limit > 0 then
      local t = min(taken, limit)
      if used < t then give(w, TOKENS, now, at, t - used) else add(w, TOKENS, used - t) end
    end
  end
end

local function reservation(name)
  local record = redis.call('HGET', KEYS[2], name)
  if not record then return nil end
  local at, taken = string.match(record, '^(%d+) (%d+)$')
  return tonumber(at), tonumber(taken)
end

local function forget(name)
  redis.call('HDEL', KEYS[2], name)
  redis.call('ZREM', KEYS[3], name)
end

-- sweep gives back what was reserved by those who died.
local function sweep(scopes, now)
  local dead = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', int(now), 'LIMIT', 0, SWEEP)
  for _, name in ipairs(dead) do
    local at, taken = reservation(name)
    if at then settleScopes(scopes, now, at, taken, 0) end
    forget(name)
  end
  return #dead
end

local function reserve(name, now, taken, ttl)
  redis.call('HSET', KEYS[2], name, int(now) .. ' ' .. int(taken))
  redis.call('ZADD', KEYS[3], int(now + ttl), name)
  local ms = ceil(ttl / 1000) + KEEP
  for i = 2, 3 do
    if redis.call('PTTL', KEYS[i]) < ms then redis.call('PEXPIRE', KEYS[i], int(ms)) end
  end
end

-- closedFor is how many ms the key stays shut. A key that says longer than it was told to has
-- seen the clock go back.
local function closedFor()
  local left = redis.call('PTTL', KEYS[1])
  if left <= 0 then return 0 end
  local told = tonumber(string.match(redis.call('GET', KEYS[1]), '^%d+'))
  if left > told then
    left = told
    redis.call('PEXPIRE', KEYS[1], int(left))
  end
  return left
end

local function clock()
  local t = redis.call('TIME')
  return tonumber(t[1]) * MICRO + tonumber(t[2])
end

-- readScopes returns the scopes and the index of the argument behind them.
local function readScopes(now)
  local scopes, at = {}, 3
  for i = 1, tonumber(ARGV[2]) do
    local l = { tonumber(ARGV[at]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3]) }
    l.burst = tonumber(ARGV[at + 1])
    l.capacity = l.burst > 0 and l.burst or l[MESSAGES]
    local q = load(KEYS[3 + i])
    advance(q, now, l)
    scopes[i] = { key = KEYS[3 + i], limits = l, queue = q }
    at = at + 4
  end
  return scopes, at
end

-- saveScopes keeps each state until it says no more than no state would, and leaves in each scope
-- what room there is.
local function saveScopes(scopes, now)
  for _, s in ipairs(scopes) do
    local longest = max(MINUTE, min(s.queue.turn - now, KEEP * 1000))
    s.remaining, s.reset = {}, {}
    for m = 1, 3 do
      if s.limits[m] > 0 then
        s.remaining[m], s.reset[m] = room(s, m, now)
        longest = max(longest, s.reset[m])
      elseif s.queue[m] then
        longest = max(longest, windowReset(s.queue[m], m, now))
      end
    end
    save(s.key, s.queue, ceil(longest / 1000) + 1000)
  end
end

local function longestWait(scopes, now, want)
  local longest, by, scope = 0, 0, nil
  for _, s in ipairs(scopes) do
    for m = 1, 3 do
      local wait = metricWait(s, m, now, want)
      if wait > longest then longest, by, scope = wait, m, s end
    end
  end
  return longest, by, scope
end

local function gap(s, m, n)
  local limit, burst = s.limits[m], s.limits.burst
  if m == MESSAGES and burst > 0 then
    return max(ceilDiv(n * MICRO, limit), min(CALM, floor(ceilDiv(burst * MICRO, limit) / FEW)))
  end
  if limit >= FEW * n then return 0 end
  return floor(min(n, limit) * (SLOTS[m] + 1) * WIDTH[m] / limit)
end

local function nextTurn(s, m, n, now, wait)
  local first, g = now + wait, gap(s, m, n)
  local turn = min(max(first, s.queue.turn), first + TURNS * g)
  s.queue.turn = turn + g
  return turn - now
end

local operations = {}

function operations.acquire(now)
  local scopes, at = readScopes(now)
  local ttl, waits = tonumber(ARGV[at]), ARGV[at + 1] == '1'
  local expired = 0
  if scopes[1].limits[TOKENS] > 0 then expired = sweep(scopes, now) end

  local granted, wait, by, scope = 0, closedFor() * 1000, 0, nil
  local turn = wait
  if wait > 0 then
    by = CLOSED
  else
    for i = at + 2, #ARGV, 4 do
      local want, name = { tonumber(ARGV[i]), tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]) }, ARGV[i + 3]
      -- A name that is reserved already was granted before, in an answer that got lost.
      if name == '' or not reservation(name) then
        wait, by, scope = longestWait(scopes, now, want)
        if wait > 0 then
          turn = waits and nextTurn(scope, by, want[by], now, wait) or wait
          for _, s in ipairs(scopes) do
            local w = s.queue[by]
            if w then w.refused = min(w.refused + 1, MOST[MESSAGES]) end
          end
          break
        end
        for _, s in ipairs(scopes) do take(s, want) end
        if name ~= '' and scopes[1].limits[TOKENS] > 0 then
          reserve(name, now, min(want[TOKENS], scopes[1].limits[TOKENS]), ttl)
        end
      end
      granted = granted + 1
    end
  end
  saveScopes(scopes, now)

  local answer = { now, granted, wait, turn, by }
  for m = 1, 3 do
    local remaining, reset = -1, 0
    for _, s in ipairs(scopes) do
      local r = s.remaining[m]
      if r then
        if remaining < 0 or r < remaining then remaining = r end
        reset = max(reset, s.reset[m])
      end
    end
    answer[#answer + 1] = remaining
    answer[#answer + 1] = reset
  end
  answer[#answer + 1] = expired
  return answer
end

function operations.settle(now)
  local scopes, i = readScopes(now)
  local name, used = ARGV[i], tonumber(ARGV[i + 1])
  local at, taken = reservation(name)
  if not at then return { now, 0, 0, 0 } end
  forget(name)
  settleScopes(scopes, now, at, taken, used)
  saveScopes(scopes, now)
  return { now, 1, taken, at }
end

function operations.usage(now)
  local q = load(KEYS[2])
  advance(q, now, { 0, 0, 0 })
  local answer = { now, closedFor() }
  for m = 1, 3 do
    answer[#answer + 1] = q[m] and q[m].sum or 0
    answer[#answer + 1] = q[m] and q[m].refused or 0
  end
  return answer
end

function operations.close(now)
  local ms = tonumber(ARGV[2])
  local left = closedFor()
  if left < ms then
    redis.call('SET', KEYS[1], int(ms) .. ' ' .. ARGV[3], 'PX', int(ms))
    left = ms
  end
  return { now, left }
end

function operations.closed(now) return { now, closedFor() } end

return operations[ARGV[1]](clock())
