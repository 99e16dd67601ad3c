/** All topics: a list to filter and sort, and a form that makes one. */

import { html, nothing } from '../vendor/lit-html.js'
import { ask, topicPath } from '../api.js'
import { bytes, number } from '../format.js'
import { emptyState, paused, problemNote, table, topicLink } from '../ui.js'
import { ListScreen } from './screen.js'

const COLUMNS = [
  { title: 'Topic', sort: 'name', cell: row => html`${topicLink(row.topic)}${paused(row)}` },
  { title: 'Messages', sort: '-messages', number: true, cell: row => number(row.messages) },
  { title: 'A second', sort: '-rate', number: true, cell: row => number(row.rate) },
  { title: 'Size', sort: '-bytes', number: true, cell: row => bytes(row.bytes) },
  { title: 'Scheduled', sort: '-delayed', number: true, cell: row => number(row.delayed) },
  { title: 'Subscribers', number: true, cell: row => number(row.subscribers) },
  { title: 'Groups', number: true, cell: row => number(row.groups.length) },
]

export class Topics extends ListScreen {
  title = 'Topics'
  name = 'topics'
  sorts = COLUMNS.map(column => column.sort).filter(Boolean)

  constructor(app, _names, query) {
    super(app, query)
  }

  async create(event) {
    event.preventDefault()
    const form = new FormData(event.target)
    const settings = {}
    for (const name of ['max_messages', 'max_bytes']) if (form.get(name)) settings[name] = Number(form.get(name))
    if (form.get('max_age')) settings.max_age = form.get('max_age')
    const topic = form.get('topic')
    if (await this.app.attempt(() => ask('PUT', topicPath(topic), { json: settings }))) {
      this.app.go(`/topic/${encodeURIComponent(topic)}`)
    }
  }

  view() {
    return html`<h1>Topics</h1>
      ${this.bar('topic', 'part of a name')}
      ${problemNote(this.problem, () => this.refresh())}
      ${table('Topics', COLUMNS, this.rows, { sorted: this.sort, onSort: sort => this.order(sort), empty: this.empty() })}
      ${this.pager()}
      ${this.app.session.rights.admin?.length ? this.form() : nothing}`
  }

  empty() {
    if (!this.loaded) return 'Loading …'
    if (this.filter) return 'No topic has this text in its name.'
    return emptyState('There is no topic yet.', html`The first message that is published to a topic makes it: <a href="#/">the Overview</a> shows how.`)
  }

  form() {
    return html`<details class="sheet"><summary>Create a topic</summary>
      <form class="fields" @submit=${event => this.create(event)}>
        <label>Name <input name="topic" required maxlength="1024" placeholder="such as orders.eu"></label>
        <label>Retain at most so many messages <input name="max_messages" type="number" min="1" placeholder="as the server's default"></label>
        <label>Retain at most so many bytes <input name="max_bytes" type="number" min="1" placeholder="as the server's default"></label>
        <label>Retain for at most <input name="max_age" placeholder="such as 1h or 7d"></label>
        <button class="primary">Create</button>
      </form>
      <p class="hint">A topic is also made by the first message that is published to it.</p>
    </details>`
  }
}
