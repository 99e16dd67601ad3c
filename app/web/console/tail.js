/** The messages of a topic: the newest as they arrive, or those from some place on, and the pages before and behind. */

import { get, topicPath } from './api.js'
import { EventStream } from './events.js'
import { MOST_SHOWN, visible } from './text.js'

export const LIVE = 200 // messages in the page while they arrive
export const MOST_ROWS = 500 // in the page; more slow it down
const PAGE = 100 // messages that are fetched at once
const DRAW_INTERVAL = 200 // milliseconds between two drawings while messages arrive
const CONTROL = new Set(['gap', 'bye', 'busy', 'rest'])
const BEGINNINGS = /^(latest|last:\d+)$/
const ID = /^[a-z0-9]+-\d+$/

export class Tail {
  /** `from`: `latest` or `last:N` to follow what arrives; `earliest`, an id, a duration or a time to read there.
   * `onChange()` is called when there is something new to draw. */
  constructor(topic, from, onChange) {
    Object.assign(this, { topic, onChange })
    this.timer = null
    this.begin(from)
  }

  begin(from) {
    this.stream?.close()
    this.stream = null
    this.entries = [] // the oldest first: {id, type, record} of messages, {type, data} of control events
    this.arrived = 0
    this.skipped = 0 // arrived, and not shown because newer ones came
    this.waiting = [] // arrived while paused
    this.missed = 0 // arrived while paused, and no longer in `waiting`
    this.paused = false
    this.problem = null
    this.atBeginning = false // there is nothing older
    this.atEnd = true // what is shown reaches the newest
    if (BEGINNINGS.test(from)) this.follow(from)
    else this.read(from)
  }

  close() {
    this.stream?.close()
    clearTimeout(this.timer)
  }

  // What arrives

  follow(from) {
    this.state = 'connecting'
    this.stream = new EventStream(topicPath(this.topic, 'stream'), { format: 'json', since: from }, {
      onEvents: events => this.take(events),
      onState: (state, problem = null) => this.enter(state, problem),
      onReturn: () => this.catchUp(),
    })
  }

  enter(state, problem) {
    this.state = state
    this.problem = problem
    this.onChange()
  }

  /** Only what may be shown is kept; a record is not even read before it is drawn, unless it is too long to keep. */
  take(events) {
    const shown = events.filter(event => event.type !== 'place')
    const kept = shown.slice(-LIVE)
    kept.forEach(shorten)
    this.arrived += shown.length
    const list = this.paused ? this.waiting : this.entries
    list.push(...kept)
    const over = Math.max(list.length - LIVE, 0)
    list.splice(0, over)
    const lost = over + shown.length - kept.length
    if (this.paused) this.missed += lost
    else this.skipped += lost
    this.drawSoon()
  }

  drawSoon() {
    this.timer ??= setTimeout(() => {
      this.timer = null
      this.onChange()
    }, DRAW_INTERVAL)
  }

  pause(paused) {
    this.paused = paused
    if (!paused) {
      if (this.missed || !this.atEnd) this.begin(`last:${LIVE}`)
      else {
        this.entries.push(...this.waiting)
        this.entries.splice(0, this.entries.length - LIVE)
        this.waiting = []
      }
    }
    this.onChange()
  }

  /** After a rest in the background, what is no longer shown anyway is not fetched. */
  async catchUp() {
    const { stream } = this
    const last = this.entries.findLast(entry => !isControl(entry))
    if (!last) return
    const missed = (await this.countFrom(recordOf(last).index)) - 1
    if (missed <= LIVE) return
    this.take([{ type: 'rest', data: JSON.stringify({ missed: missed - PAGE }), id: null }])
    stream.lastId = ''
    stream.parameters = { ...stream.parameters, since: `last:${PAGE}` }
  }

  // Pages

  /** Show a page that begins at this place. */
  async read(from) {
    this.state = 'reading'
    await this.attempt(async () => {
      const since = ID.test(from) ? await this.placeOf(from) : from
      const { messages, gap } = await this.page({ since, limit: PAGE })
      this.entries = [...(gap ? [{ type: 'gap', data: JSON.stringify(gap) }] : []), ...messages.map(asEntry)]
      this.atEnd = messages.length < PAGE
    })
  }

  /** Where a page begins with this very message. */
  async placeOf(id) {
    try {
      const { index } = await get(topicPath(this.topic, 'messages'), { since: id, limit: 1 }).then(page => page.messages[0] ?? {})
      return index === undefined ? 'last:1' : `last:${(await this.countFrom(index)) + 1}`
    } catch {
      return id
    }
  }

  /** Put the page of messages before the oldest one that is shown in front of it. The page stops following. */
  older() {
    return this.attempt(async () => {
      const first = this.entries.find(entry => !isControl(entry))
      const known = first ? await this.countFrom(recordOf(first).index) : 0
      const { messages } = await this.page({ since: `last:${known + PAGE}`, limit: PAGE })
      const end = first ? messages.findIndex(record => sequence(record.id) >= sequence(first.id)) : -1
      const before = end < 0 ? messages : messages.slice(0, end)
      this.atBeginning = before.length === 0
      this.paused = true
      this.entries.unshift(...before.map(asEntry))
      if (this.entries.splice(MOST_ROWS).length) this.atEnd = false
    })
  }

  /** Put the page of messages behind the newest one that is shown behind it. */
  newer() {
    return this.attempt(async () => {
      const last = this.entries.findLast(entry => !isControl(entry))
      const { messages } = await this.page({ since: last?.id ?? 'earliest', limit: PAGE })
      this.atEnd = messages.length < PAGE
      this.entries.push(...messages.map(asEntry))
      if (this.entries.splice(0, Math.max(this.entries.length - MOST_ROWS, 0)).length) this.atBeginning = false
    })
  }

  async attempt(action) {
    try {
      await action()
      this.problem = null
    } catch (problem) {
      this.problem = problem
    }
    this.onChange()
  }

  page(parameters) {
    return get(topicPath(this.topic, 'messages'), parameters)
  }

  /** How many messages the topic retains from the one with this index on: its newest index tells. */
  async countFrom(index) {
    const { messages } = await this.page({ since: 'last:1', limit: 1 })
    return messages.length ? Math.max(messages[0].index - index + 1, 0) : 0
  }
}

export const isControl = entry => CONTROL.has(entry.type)

/** The message's record, which is read when it is first needed. */
export function recordOf(entry) {
  entry.record ??= JSON.parse(entry.data)
  return entry.record
}

const asEntry = record => ({ type: record.event ?? 'message', id: record.id, record: cut(record) })

/** Keep no more of a message than may be shown: a page of large ones would fill the browser's memory. */
function shorten(entry) {
  entry.id = entry.id && alone(entry.id)
  if (entry.data.length <= 2 * MOST_SHOWN) entry.data = alone(entry.data)
  else {
    entry.record = cut(JSON.parse(entry.data))
    entry.data = null
  }
}

/** The text without the longer one that it was cut from, which the browser would keep in memory with it. */
const alone = text => JSON.parse(JSON.stringify(text))

function cut(record) {
  for (const name of ['data', 'data_base64']) {
    const body = record[name]
    if (body === undefined || body.length <= MOST_SHOWN) continue
    record.size ??= name === 'data' ? new TextEncoder().encode(body).length : Math.floor((body.replace(/=+$/, '').length * 3) / 4)
    record.truncated = true
    record[name] = alone(body.slice(0, MOST_SHOWN))
  }
  return record
}

/** What a filter looks through. */
export const searched = record =>
  [record.data, record.event, record.id, record.content_type, record.key, ...Object.values(record.headers ?? {})]
    .filter(Boolean).map(visible).join('\n').toLowerCase()

const sequence = id => Number(id.split('-')[1])
