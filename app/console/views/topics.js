/** All topics: a list to filter and sort, and a form that makes one. */

import { html, nothing } from '../vendor/lit-html.js'
import { ask, pages, topicPath } from '../api.js'
import { bytes, number } from '../format.js'
import { problemNote, table, topicLink } from '../ui.js'
import { Screen } from './screen.js'

const SHOWN = 200 // rows: more are not read, and slow the page
const ORDERS = {
  topic: (a, b) => (a.topic < b.topic ? -1 : 1),
  '-messages': (a, b) => b.messages - a.messages,
  '-bytes': (a, b) => b.bytes - a.bytes,
  '-subscribers': (a, b) => b.subscribers - a.subscribers,
  '-groups': (a, b) => b.groups.length - a.groups.length,
  '-delayed': (a, b) => b.delayed - a.delayed,
}
const COLUMNS = [
  { title: 'Topic', sort: 'topic', cell: row => html`${topicLink(row.topic)}${row.paused ? html` <b class="badge">paused</b>` : nothing}` },
  { title: 'Messages', sort: '-messages', number: true, cell: row => number(row.messages) },
  { title: 'Bytes', sort: '-bytes', number: true, cell: row => bytes(row.bytes) },
  { title: 'Scheduled', sort: '-delayed', number: true, cell: row => number(row.delayed) },
  { title: 'Subscribers', sort: '-subscribers', number: true, cell: row => number(row.subscribers) },
  { title: 'Groups', sort: '-groups', number: true, cell: row => number(row.groups.length) },
]

export class Topics extends Screen {
  title = 'Topics'
  interval = 0 // there may be thousands

  constructor(app, _names, query) {
    super(app)
    this.filter = query.get('filter') ?? ''
    this.sort = Object.hasOwn(ORDERS, query.get('sort')) ? query.get('sort') : 'topic'
    this.topics = []
    this.loading = true
  }

  async load() {
    this.loading = true
    const found = []
    try {
      for await (const page of pages('topics', 'topics')) {
        if (this.stopped) return
        found.push(...page)
        if (found.length > this.topics.length) this.topics = [...found]
        this.app.redraw()
      }
      this.topics = found
    } finally {
      this.loading = false
    }
  }

  inAddress() {
    return { filter: this.filter, sort: this.sort === 'topic' ? '' : this.sort }
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
    const wanted = this.filter.toLowerCase()
    const found = this.topics.filter(topic => topic.topic.toLowerCase().includes(wanted)).sort(ORDERS[this.sort])
    return html`<h1>Topics</h1>
      <div class="bar">
        <label>Filter <input data-filter type="search" .value=${this.filter}
          @input=${event => this.choose({ filter: event.target.value })}></label>
        <button @click=${() => this.refresh()} ?disabled=${this.loading}>Refresh</button>
        <p role="status">${this.loading ? 'Loading …' : ''} ${number(found.length)} of ${number(this.topics.length)} topics${found.length > SHOWN ? `, the first ${SHOWN} are shown` : ''}</p>
      </div>
      ${problemNote(this.problem)}
      ${table('Topics', COLUMNS, found.slice(0, SHOWN), { sorted: this.sort, onSort: sort => this.choose({ sort }), empty: this.loading ? 'Loading …' : 'No topics.' })}
      ${this.app.session.may('admin') ? this.form() : nothing}`
  }

  form() {
    return html`<details><summary>Create a topic</summary>
      <form class="fields" @submit=${event => this.create(event)}>
        <label>Name <input name="topic" required maxlength="1024"></label>
        <label>Most messages <input name="max_messages" type="number" min="1" placeholder="default"></label>
        <label>Most bytes <input name="max_bytes" type="number" min="1" placeholder="default"></label>
        <label>Greatest age <input name="max_age" placeholder="such as 1h or 7d"></label>
        <button class="primary">Create</button>
      </form>
      <p class="hint">A topic is also made by the first message that is published to it.</p>
    </details>`
  }
}
