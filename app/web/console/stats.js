/** The server's statistics: the newest sample and those before, shared by all screens. */

import { get } from './api.js'
import { EventStream } from './events.js'

const KEPT = 300 // samples

export class Stats {
  /** `onChange()` is called for each sample and each change of `state` (as of EventStream). */
  constructor(onChange) {
    this.samples = []
    this.server = null
    this.attention = null // what needs it, as the server says
    this.attentionTotal = 0
    this.state = 'connecting'
    this.problem = null
    this.onChange = onChange
    this.stream = new EventStream('stats/stream', {}, {
      onEvents: events => this.take(events),
      onState: (state, problem = null) => this.enter(state, problem),
    })
  }

  get now() {
    return this.samples.at(-1) ?? null
  }

  close() {
    this.stream.close()
  }

  async enter(state, problem) {
    this.state = state
    this.problem = problem
    this.onChange()
    if (state === 'open') await this.fill()
  }

  /** What needs attention, and what happened before the page was opened, or while the connection was lost. */
  async fill() {
    try {
      const answer = await get('stats', { history: true })
      this.server = answer.server
      this.attention = answer.attention
      this.attentionTotal = answer.attention_total
      this.samples = answer.history.slice(-KEPT)
    } catch (problem) {
      this.problem = problem
    }
    this.onChange()
  }

  take(events) {
    for (const event of events) {
      if (event.type !== 'stats') continue
      const { attention, attention_total: total, ...sample } = JSON.parse(event.data)
      this.samples.push(sample)
      this.attention = attention
      this.attentionTotal = total
    }
    this.samples.splice(0, this.samples.length - KEPT)
    this.onChange()
  }
}
