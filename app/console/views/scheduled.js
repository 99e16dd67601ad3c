/** Messages that were published with a delay or for a time: see, cancel, publish now. */

import { html, nothing } from '../vendor/lit-html.js'
import { get, send } from '../api.js'
import { number } from '../format.js'
import { bodyText, problemNote, table, time, topicLink } from '../ui.js'
import { PagedScreen } from './screen.js'

export class Scheduled extends PagedScreen {
  title = 'Scheduled'

  constructor(app, _names, query) {
    super(app)
    this.match = query.get('match') ?? ''
    this.items = []
  }

  async load() {
    const page = await get('scheduled', { match: this.match, after: this.after.at(-1) })
    this.items = page.scheduled
    this.next = page.next
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
    const agreed = await this.app.dialogs.confirm({
      title: 'Cancel this message?', text: `It would be published to ${item.topic} ${new Date(item.due).toLocaleString()}.`, action: 'Cancel the message',
    })
    if (agreed) await this.app.attempt(() => send('DELETE', `scheduled/${item.id}`), 'Cancelled.')
    this.refresh()
  }

  async publish(item) {
    await this.app.attempt(() => send('POST', `scheduled/${item.id}/publish`), 'Published.')
    this.refresh()
  }

  view() {
    const { session } = this.app
    const columns = [
      { title: 'Due', cell: item => time(item.due) },
      { title: 'Topic', cell: item => topicLink(item.topic) },
      { title: 'Messages', number: true, cell: item => number(item.messages ?? item.count ?? 1) },
      { title: 'Id', cell: item => html`<code>${item.id}</code>` },
      { title: 'Body', cell: item => (item.data === undefined && item.data_base64 === undefined ? '–' : html`<details><summary>show</summary><pre>${bodyText(item, 'auto')}</pre></details>`) },
      { title: '', cell: item => session.may('admin', item.topic)
        ? html`<button @click=${() => this.publish(item)}>Publish now</button> <button class="danger" @click=${() => this.cancel(item)}>Cancel …</button>` : nothing },
    ]
    return html`<h1>Scheduled</h1>
      <form class="bar" @submit=${event => this.filter(event)}>
        <label>Topics <input data-filter name="match" .value=${this.match} placeholder="all, or a pattern such as orders.*"></label><button>Show</button></form>
      ${problemNote(this.problem)}
      ${table('Scheduled messages, the next one first', columns, this.items, { empty: 'Nothing is scheduled.' })}
      ${this.pager()}`
  }
}
