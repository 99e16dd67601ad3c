/** Server-sent events over fetch.
 *
 * An EventSource gives events only to listeners of their name, and the names of messages are their publishers'. It also
 * hides why the server refuses a stream. This reads every event, and comes back by itself with the last id, as an
 * EventSource does (WHATWG HTML, section 9.2). While nobody looks at the page it rests: the server has one reader less.
 */

import { address, problem } from './api.js'

const FIRST_RETRY = 1_000 // milliseconds
const LONGEST_RETRY = 30_000
const SILENCE = 60_000 // the server writes a comment every 15 seconds: the connection is dead
const REST_AFTER = 10_000 // in the background

export class EventStream {
  /** `onEvents(events)`: those that arrived together, each `{type, data, id}`. `onState(state, problem)`: `connecting`,
   * `open`, `resting`, `lost` (it will come back) or `refused` (it will not). `onReturn()`: before it reads on after a
   * rest; it may change `lastId` and `parameters`. */
  constructor(path, parameters, { onEvents, onState = () => {}, onReturn = () => {} }) {
    Object.assign(this, { path, parameters, onEvents, onState, onReturn })
    this.lastId = ''
    this.retry = FIRST_RETRY
    this.failures = 0
    this.closed = new AbortController()
    this.connection = null // the request that is under way
    this.resting = false
    const { signal } = this.closed
    document.addEventListener('visibilitychange', () => this.look(), { signal })
    addEventListener('online', () => this.wake?.(), { signal })
    addEventListener('offline', () => this.connection?.abort(), { signal }) // it may be dead, and nothing would say so
    queueMicrotask(() => this.run()) // its caller has it by then
  }

  close() {
    this.closed.abort()
    this.connection?.abort()
    clearTimeout(this.restTimer)
    clearTimeout(this.silenceTimer)
    this.wake?.()
  }

  /** The page was put into the background, or came out of it. */
  look() {
    clearTimeout(this.restTimer)
    if (document.hidden) {
      this.restTimer = setTimeout(() => {
        this.resting = true
        this.connection?.abort()
      }, REST_AFTER)
    } else {
      this.resting = false
      this.wake?.()
    }
  }

  async run() {
    while (!this.closed.signal.aborted) {
      try {
        this.onState('connecting')
        await this.read()
        this.onState('lost')
      } catch (error) {
        if (this.closed.signal.aborted) return
        if (error.status >= 400 && error.status < 500 && error.status !== 429) {
          this.onState('refused', error)
          return
        }
        if (!this.resting) {
          this.failures += 1
          this.onState('lost', error)
        }
      }
      if (this.resting) await this.rest()
      else await this.pause(Math.min(this.retry * 2 ** Math.min(this.failures, 5), LONGEST_RETRY))
    }
  }

  async rest() {
    this.onState('resting')
    while (this.resting && !this.closed.signal.aborted) await this.pause(2 ** 31 - 1)
    if (this.closed.signal.aborted) return
    try {
      await this.onReturn()
    } catch {} // it reads on from where it was
  }

  /** Wait, or until wake() is called. */
  pause(milliseconds) {
    return new Promise(resolve => {
      const timer = setTimeout(resolve, milliseconds)
      this.wake = () => (clearTimeout(timer), resolve())
    })
  }

  /** A connection that is silent for too long is dead, though nothing says so: after a sleep, for instance. */
  heard() {
    clearTimeout(this.silenceTimer)
    this.silenceTimer = setTimeout(() => this.connection?.abort(), SILENCE)
  }

  async read() {
    this.connection = new AbortController()
    const { signal } = this.connection
    const headers = { Accept: 'text/event-stream', ...(this.lastId && { 'Last-Event-ID': this.lastId }) }
    const response = await fetch(address(this.path, this.parameters), { headers, signal, cache: 'no-store' })
    if (!response.ok) throw await problem(response)
    this.failures = 0
    this.onState('open')
    let rest = ''
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
    try {
      for (let { value, done } = await reader.read(); !done; { value, done } = await reader.read()) {
        this.heard()
        const blocks = (rest + value).split('\n\n')
        rest = blocks.pop()
        const events = blocks.map(block => this.parse(block)).filter(event => event.data !== null)
        if (events.length) this.onEvents(events)
      }
    } finally {
      clearTimeout(this.silenceTimer)
    }
  }

  /** One block. Its data is null if it has none. */
  parse(block) {
    const event = { type: 'message', data: null, id: null }
    for (const line of block.split('\n')) {
      const colon = line.indexOf(':')
      const name = colon < 0 ? line : line.slice(0, colon)
      const value = colon < 0 ? '' : line.slice(colon + (line[colon + 1] === ' ' ? 2 : 1))
      if (name === 'data') event.data = event.data === null ? value : `${event.data}\n${value}`
      else if (name === 'event') event.type = value
      else if (name === 'id') event.id = this.lastId = value
      else if (name === 'retry' && /^\d+$/.test(value)) this.retry = Number(value)
    }
    return event
  }
}
