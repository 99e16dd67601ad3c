/** Who listens and works now. */

import { html } from '../vendor/lit-html.js'
import { pages } from '../api.js'
import { number } from '../format.js'
import { problemNote, table, time } from '../ui.js'

const SHOWN = 500 // rows
const INTERVAL = 5_000 // milliseconds
const COLUMNS = [
  { title: 'Client', cell: row => row.client ?? '–' },
  { title: 'Kind', cell: row => row.kind },
  { title: 'Topics', cell: row => (row.topics ?? [row.topic]).join(', ') },
  { title: 'Group', cell: row => row.group ?? '–' },
  { title: 'Since', cell: row => time(row.since) },
  { title: 'Position', cell: row => (row.position === undefined ? '–' : row.position === null ? 'live' : html`<code>${row.position}</code>`) },
]

export class Subscribers {
  title = 'Subscribers'

  constructor(app, _names, query) {
    this.app = app
    this.filter = query.get('filter') ?? ''
    this.rows = []
    this.problem = null
  }

  start() {
    this.load()
    this.timer = setInterval(() => document.hidden || this.load(), INTERVAL)
  }

  stop() {
    clearInterval(this.timer)
  }

  async load() {
    const found = []
    try {
      for await (const page of pages('subscribers', 'subscribers')) {
        found.push(...page)
        if (found.length >= SHOWN) break
      }
      this.rows = found
      this.problem = null
    } catch (problem) {
      if (problem.status === 401) this.app.expired()
      this.problem = problem
    }
    this.app.redraw()
  }

  view() {
    const wanted = this.filter.toLowerCase()
    const found = this.rows.filter(row => JSON.stringify(row).toLowerCase().includes(wanted))
    return html`<h1>Subscribers</h1>
      <div class="bar"><label>Filter <input data-filter type="search" .value=${this.filter}
          @input=${event => { this.filter = event.target.value; this.app.remember({ filter: this.filter }); this.app.redraw() }}></label>
        <p role="status">${number(found.length)} shown</p></div>
      ${problemNote(this.problem)}
      ${table('Subscribers and consumers', COLUMNS, found.slice(0, SHOWN), { empty: 'Nobody listens.' })}`
  }
}
