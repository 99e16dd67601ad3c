/** The newest messages of a topic or a pattern, as they arrive, and the older ones before them. */

import { get, topicPath } from './api.js'
import { EventStream } from './events.js'

export const SHOWN = 200 // messages in the page
const DRAW_INTERVAL = 200 // milliseconds between two drawings while messages arrive
const OLDER = 100 // messages that are fetched at once
const CONTROL = new Set(['gap', 'bye', 'busy'])

export class Tail {
  /** `from`: `latest`, `earliest`, `last:N`, an id, a duration or a time. `onChange()` is called when there is something
   * new to draw. */
  constructor(topic, from, onChange) {
    this.topic = topic
    this.onChange = onChange
    this.entries = [] // the oldest first: {id, type, record} of messages, {type, data} of control events
    this.arrived = 0
    this.skipped = 0 // arrived, and not shown because newer ones came
    this.waiting = [] // arrived while paused
    this.paused = false
    this.state = 'connecting'
    this.problem = null
    this.beginning = false // there is nothing older
    this.timer = null
    this.stream = new EventStream(topicPath(topic, 'stream'), { format: 'json', since: from }, {
      onEvents: events => this.take(events),
      onState: (state, problem = null) => {
        this.state = state
        this.problem = problem
        this.onChange()
      },
    })
  }

  close() {
    this.stream.close()
    clearTimeout(this.timer)
  }

  /** Only what may be shown is kept; a record is not even read before it is drawn. */
  take(events) {
    const shown = events.filter(event => event.type !== 'place')
    this.arrived += shown.length
    const list = this.paused ? this.waiting : this.entries
    list.push(...shown.slice(-SHOWN))
    if (list.length > SHOWN) this.skipped += list.splice(0, list.length - SHOWN).length
    this.skipped += Math.max(shown.length - SHOWN, 0)
    this.timer ??= setTimeout(() => {
      this.timer = null
      this.onChange()
    }, DRAW_INTERVAL)
  }

  pause(paused) {
    this.paused = paused
    if (!paused) {
      const waiting = this.waiting
      this.waiting = []
      this.entries.push(...waiting)
      this.entries.splice(0, this.entries.length - SHOWN)
    }
    this.onChange()
  }

  /** Put the messages before the oldest one that is shown in front of it. The page stops following. */
  async older() {
    const first = this.entries.find(entry => !isControl(entry))
    const known = first ? await this.countFrom(first.id) : 0
    const { messages } = await get(topicPath(this.topic, 'messages'), { since: `last:${known + OLDER}`, limit: OLDER })
    const end = first ? messages.findIndex(record => sequence(record.id) >= sequence(first.id)) : -1
    const before = end < 0 ? messages : messages.slice(0, end)
    this.beginning = before.length === 0
    this.paused = true
    this.entries.unshift(...before.map(record => ({ type: record.event ?? 'message', id: record.id, record })))
    this.onChange()
  }

  /** How many messages the topic retains from this one on: its newest index tells. */
  async countFrom(id) {
    const record = recordOf(this.entries.find(entry => entry.id === id))
    const { messages } = await get(topicPath(this.topic, 'messages'), { since: 'last:1', limit: 1 })
    return messages.length ? Math.max(messages[0].index - record.index + 1, 0) : 0
  }
}

export const isControl = entry => CONTROL.has(entry.type)

/** The message's record, which is read when it is first needed. */
export function recordOf(entry) {
  entry.record ??= JSON.parse(entry.data)
  return entry.record
}

const sequence = id => Number(id.split('-')[1])
