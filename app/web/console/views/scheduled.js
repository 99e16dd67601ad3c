/** Messages that were published with a delay or for a time: see, cancel, publish now. */

import { html, nothing } from '../vendor/lit-html.js'
import { get, send } from '../api.js'
import { clock, exact, number, plural } from '../format.js'
import { attributes, body, emptyState, hasBody, problemNote, table, time, topicLink } from '../ui.js'
import { visible } from '../text.js'
import { PagedScreen } from './screen.js'

export class Scheduled extends PagedScreen {
  title = 'Scheduled'

  constructor(app, _names, query) {
    super(app)
    this.match = query.get('match') ?? ''
    this.items = []
    this.opened = new Set()
    this.batches = new Map() // id → those messages of a batch that have been asked for, and where they go on
  }

  async load(signal) {
    const match = this.match || this.app.session.match
    const page = await get('scheduled', { match, after: this.after.at(-1), limit: this.pageSize }, signal)
    Object.assign(this, { items: page.scheduled, next: page.next })
    const present = new Set(page.scheduled.map(item => item.id))
    for (const id of this.batches.keys()) if (!present.has(id)) this.batches.delete(id)
  }

  filter(event) {
    event.preventDefault()
    this.choose({ match: event.target.elements.match.value.trim() })
    this.turn([])
  }

  inAddress() {
    return { match: this.match }
  }

  async cancel(item) {
    const agreed = await this.app.dialogs.ask({
      title: item.scheduled === 1 ? 'Cancel this message?' : `Cancel ${plural(item.scheduled, 'message')}?`,
      text: html`<p>It would be published to <b>${item.topic}</b> on ${clock(item.due)}. It is removed, and nobody will get it.</p>`,
      action: 'Cancel the message', danger: true,
    })
    if (!agreed) return
    await this.app.attempt(() => send('DELETE', `scheduled/${item.id}`), 'Cancelled.')
    this.refresh()
  }

  async publish(item) {
    await this.app.attempt(() => send('POST', `scheduled/${item.id}/publish`), `Published to ${item.topic}.`)
    this.refresh()
  }

  /** The messages of a batch, of which the list has only the first, a page at a time. */
  async expand(item) {
    const { messages, next } = this.batches.get(item.id) ?? { messages: [] }
    await this.app.attempt(async () => {
      const page = await get(`scheduled/${item.id}`, { after: next })
      this.batches.set(item.id, { messages: [...messages, ...page.messages], next: page.next })
    })
    this.app.redraw()
  }

  bodies(item) {
    const redraw = () => this.app.redraw()
    if (!hasBody(item)) return body(item, this.opened, redraw)
    const { messages, next } = this.batches.get(item.id) ?? { messages: [{ ...item, size: item.scheduled === 1 ? item.size : undefined }], next: item.scheduled > 1 }
    const { headers, key, priority, content_type } = item
    return html`<ol class="batch">${messages.map((message, index) =>
        html`<li>${body({ headers, key, priority, content_type, ...message, id: `${item.id}.${index}` }, this.opened, redraw)}</li>`)}</ol>
      ${next ? html`<button class="plain" aria-label="Show more messages of ${item.id}" @click=${() => this.expand(item)}>${exact(messages.length)} of ${exact(item.scheduled)}: show more</button>` : nothing}`
  }

  view() {
    const { session } = this.app
    const acts = this.items.some(item => session.may('admin', item.topic))
    const columns = [
      { title: 'Due', cell: item => time(item.due) },
      { title: 'Topic', cell: item => topicLink(item.topic) },
      { title: 'Messages', number: true, cell: item => number(item.scheduled) },
      { title: 'Id', cell: item => html`<code>${item.id}</code>` },
      { title: 'Content', cell: item => html`${item.event ? html`<b class="badge">${visible(item.event)}</b> ` : nothing}${attributes(item)}${this.bodies(item)}` },
      ...(acts ? [{ title: '', label: 'Actions', cell: item => session.may('admin', item.topic)
        ? html`<p class="actions"><button aria-label="Publish now: ${item.id}" @click=${() => this.publish(item)}>Publish now</button>
            <button class="danger" aria-label="Cancel: ${item.id}" @click=${() => this.cancel(item)}>Cancel …</button></p>` : nothing }] : []),
    ]
    return html`<h1>Scheduled</h1>
      <form class="bar" role="search" @submit=${event => this.filter(event)}>
        <label>Topics <input data-filter name="match" .value=${this.match} placeholder="all, or such as orders.*"></label><button>Show</button></form>
      ${problemNote(this.problem, () => this.refresh())}
      ${table('Scheduled messages, the next one first', columns, this.items, { empty: this.empty() })}
      ${this.pager()}`
  }

  empty() {
    if (!this.loaded) return 'Loading …'
    return emptyState(this.match ? 'Nothing is scheduled for these topics.' : 'Nothing is scheduled.',
      html`A message that is published with a delay, or for a time, waits here. The form on the screen of a topic has both;
        with curl: <code>curl -d hello '${new URL('topics/TOPIC/messages?delay=10m', document.baseURI).href}'</code>`)
  }
}
