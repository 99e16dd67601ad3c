/** Who listens and works now. */

import { html } from '../vendor/lit-html.js'
import { pages } from '../api.js'
import { number } from '../format.js'
import { problemNote, table, time } from '../ui.js'
import { Screen } from './screen.js'

const SHOWN = 500 // rows
const COLUMNS = [
  { title: 'Client', cell: row => row.who },
  { title: 'Kind', cell: row => row.kind },
  { title: 'Topics', cell: row => row.topics.join(', ') },
  { title: 'Group', cell: row => row.group ?? '–' },
  { title: 'Since', cell: row => time(row.since) },
  { title: 'State', cell: row => row.state ?? '–' },
  { title: 'Position', cell: row => (row.position ? html`<code>${row.position}</code>` : '–') },
]

export class Subscribers extends Screen {
  title = 'Subscribers'

  constructor(app, _names, query) {
    super(app)
    this.filter = query.get('filter') ?? ''
    this.rows = []
  }

  async load() {
    const found = []
    for await (const page of pages('subscribers', 'subscribers')) {
      found.push(...page)
      if (found.length >= SHOWN) break
    }
    this.rows = found
  }

  inAddress() {
    return { filter: this.filter }
  }

  view() {
    const wanted = this.filter.toLowerCase()
    const found = this.rows.filter(row => JSON.stringify(row).toLowerCase().includes(wanted))
    return html`<h1>Subscribers</h1>
      <div class="bar"><label>Filter <input data-filter type="search" .value=${this.filter}
          @input=${event => this.choose({ filter: event.target.value })}></label>
        <p role="status">${number(found.length)} shown</p></div>
      ${problemNote(this.problem)}
      ${table('Subscribers and consumers', COLUMNS, found.slice(0, SHOWN), { empty: 'Nobody listens.' })}`
  }
}
