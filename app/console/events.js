/** Server-sent events over fetch.
 *
 * An EventSource gives events only to listeners of their name, and the names of messages are their publishers'. It also
 * hides why the server refuses a stream. This reads every event, and comes back by itself with the last id, as an
 * EventSource does (WHATWG HTML, section 9.2).
 */

import { address, problem } from './api.js'

const FIRST_RETRY = 1_000 // milliseconds
const LONGEST_RETRY = 30_000

export class EventStream {
  /** `onEvents(events)`: those that arrived together, each `{type, data, id}`. `onState(state, problem)`: `connecting`,
   * `open`, `lost` (it will come back) or `refused` (it will not). */
  constructor(path, parameters, { onEvents, onState = () => {} }) {
    this.path = path
    this.parameters = parameters
    this.onEvents = onEvents
    this.onState = onState
    this.lastId = ''
    this.retry = FIRST_RETRY
    this.failures = 0
    this.abort = new AbortController()
    queueMicrotask(() => this.run()) // its caller has it by then
  }

  close() {
    this.abort.abort()
  }

  async run() {
    while (!this.abort.signal.aborted) {
      try {
        this.onState('connecting')
        await this.read()
        this.onState('lost')
      } catch (error) {
        if (this.abort.signal.aborted) return
        if (error.status >= 400 && error.status < 500 && error.status !== 429) {
          this.onState('refused', error)
          return
        }
        this.failures += 1
        this.onState('lost', error)
      }
      await this.pause(Math.min(this.retry * 2 ** Math.min(this.failures, 5), LONGEST_RETRY))
    }
  }

  pause(milliseconds) {
    return new Promise(resolve => {
      const timer = setTimeout(resolve, milliseconds)
      this.abort.signal.addEventListener('abort', () => (clearTimeout(timer), resolve()), { once: true })
    })
  }

  async read() {
    const headers = { Accept: 'text/event-stream', ...(this.lastId && { 'Last-Event-ID': this.lastId }) }
    const response = await fetch(address(this.path, this.parameters), {
      headers, signal: this.abort.signal, cache: 'no-store',
    })
    if (!response.ok) throw await problem(response)
    this.failures = 0
    this.onState('open')
    let rest = ''
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
    for (let { value, done } = await reader.read(); !done; { value, done } = await reader.read()) {
      const blocks = (rest + value).split('\n\n')
      rest = blocks.pop()
      const events = blocks.map(block => this.parse(block)).filter(event => event.data !== null)
      if (events.length) this.onEvents(events)
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
