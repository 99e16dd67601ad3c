/** The first minute: how to publish a message, and where it arrives. */

import { html, nothing } from '../vendor/lit-html.js'
import { address, send, topicPath } from '../api.js'
import { EventStream } from '../events.js'
import { command } from '../ui.js'
import { visible } from '../text.js'

const TOPIC = 'hello'
const SHOWN = 20 // messages

export class Tour {
  constructor(app) {
    this.app = app
    this.arrived = []
    this.stream = null
    this.telnet = ''
  }

  /** Whether the session may do what the tour shows. */
  static fits(session) {
    return session.may('publish', TOPIC) && session.may('subscribe', TOPIC)
  }

  /** The server itself knows how to reach its line port. */
  async findTelnet() {
    try {
      const text = await (await send('GET', './', { headers: { Accept: 'text/plain' } })).text()
      this.telnet = text.match(/telnet \S+ \d+/)?.[0] ?? ''
    } catch {} // the other two ways are enough
    this.app.redraw()
  }

  listen() {
    if (this.stream) return
    this.findTelnet()
    this.stream = new EventStream(topicPath(TOPIC, 'stream'), { format: 'json', since: 'earliest' }, {
      onEvents: events => {
        const messages = events.filter(event => event.type !== 'place' && event.data.startsWith('{"id"'))
        this.arrived = [...this.arrived, ...messages.map(event => JSON.parse(event.data))].slice(-SHOWN)
        this.app.redraw()
      },
    })
  }

  stop() {
    this.stream?.close()
    this.stream = null
  }

  publish() {
    return this.app.attempt(() => send('POST', topicPath(TOPIC, 'messages'), { body: 'Hello from the console' }))
  }

  view() {
    this.listen()
    const token = this.app.session.anonymous ? '' : ' -H "Authorization: Bearer $PLAINMQ_TOKEN"'
    return html`<section class="tour" aria-labelledby="tour">
      <h2 id="tour">Publish your first message</h2>
      <p>A message goes to a <b>topic</b>, which is made by its first message. Publish one to <code>${TOPIC}</code>, in one of these ways:</p>
      <ol class="ways">
        <li><h3>Here</h3><button class="primary" @click=${() => this.publish()}>Publish a message</button></li>
        <li><h3>In a terminal</h3>${command(`curl${token} -d hello ${address(topicPath(TOPIC, 'messages')).href}`, 'A command that publishes', this.app)}</li>
        ${this.telnet ? html`<li><h3>By telnet</h3>${command(`${this.telnet}\npub ${TOPIC} hello`, 'Lines that publish by telnet', this.app)}</li>` : nothing}
      </ol>
      <h3>What has arrived</h3>
      <ul role="log" aria-label="What has arrived" class="arrived">${this.arrived.map(record => html`<li>${visible(record.data ?? '')}</li>`)}</ul>
      ${this.arrived.length ? html`<p class="fine">It arrived. <a href="#/topic/${TOPIC}">Go to the topic</a> to publish more, and to see what is in it.</p>` : html`<p class="hint">Nothing yet: the message will appear here by itself.</p>`}
    </section>`
  }
}
