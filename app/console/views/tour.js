/** The first minute: how to publish a message, and where it arrives. */

import { html, nothing } from '../vendor/lit-html.js'
import { address, send, topicPath } from '../api.js'
import { EventStream } from '../events.js'
import { visible } from '../ui.js'

const TOPIC = 'hello'

export class Tour {
  constructor(app) {
    this.app = app
    this.arrived = []
    this.stream = null
    this.telnet = ''
  }

  /** The server itself knows how to reach its line port. */
  async findTelnet() {
    const text = await (await send('GET', './', { headers: { Accept: 'text/plain' } })).text()
    this.telnet = text.match(/telnet \S+ \d+/)?.[0] ?? ''
    this.app.redraw()
  }

  listen() {
    if (!this.stream) this.findTelnet()
    this.stream ??= new EventStream(topicPath(TOPIC, 'stream'), { format: 'json', since: 'earliest' }, {
      onEvents: events => {
        this.arrived.push(...events.filter(event => event.type !== 'place').map(event => JSON.parse(event.data)))
        this.app.redraw()
      },
    })
  }

  stop() {
    this.stream?.close()
    this.stream = null
  }

  publish() {
    this.listen()
    return this.app.attempt(() => send('POST', topicPath(TOPIC, 'messages'), { body: 'Hello from the console' }))
  }

  view() {
    this.listen()
    return html`<section class="tour" aria-labelledby="tour">
      <h2 id="tour">Publish your first message</h2>
      <ol>
        <li><button class="primary" @click=${() => this.publish()}>Publish a message</button> to the topic <code>${TOPIC}</code>,</li>
        <li>or in a terminal: <code>curl -d hello ${address(topicPath(TOPIC, 'messages')).href}</code></li>
        ${this.telnet ? html`<li>or by telnet: <code>${this.telnet}</code>, then <code>pub ${TOPIC} hello</code></li>` : nothing}
      </ol>
      <ul role="log" aria-label="What has arrived">${this.arrived.map(record => html`<li>${visible(record.data ?? '')}</li>`)}</ul>
      ${this.arrived.length ? html`<p>It arrived. <a href="#/topic/${TOPIC}">See the topic</a>.</p>` : nothing}
    </section>`
  }
}
