/** The groups of all topics. */

import { html, nothing } from '../vendor/lit-html.js'
import { pages } from '../api.js'
import { number } from '../format.js'
import { groupLink, problemNote, table, time, topicLink } from '../ui.js'
import { Screen } from './screen.js'

const SHOWN = 200 // rows
const lag = row => row.ready + row.leased + row.delayed
const ORDERS = {
  topic: (a, b) => (a.topic + a.group < b.topic + b.group ? -1 : 1),
  '-lag': (a, b) => lag(b) - lag(a),
  '-leased': (a, b) => b.leased - a.leased,
  '-dead': (a, b) => b.dead - a.dead,
}
const COLUMNS = [
  { title: 'Topic', sort: 'topic', cell: row => topicLink(row.topic) },
  { title: 'Group', cell: row => html`${groupLink(row.topic, row.group)}${row.paused ? html` <b class="badge">paused</b>` : nothing}` },
  { title: 'Lag', sort: '-lag', number: true, cell: row => number(lag(row)) },
  { title: 'Ready', number: true, cell: row => number(row.ready) },
  { title: 'Leased', sort: '-leased', number: true, cell: row => number(row.leased) },
  { title: 'Delayed', number: true, cell: row => number(row.delayed) },
  { title: 'Dead', sort: '-dead', number: true, cell: row => number(row.dead) },
  { title: 'Acked', number: true, cell: row => number(row.acked) },
  { title: 'Oldest', cell: row => time(row.oldest?.time) },
  { title: 'Consumers', number: true, cell: row => number(row.workers) },
]

export class Groups extends Screen {
  title = 'Groups'

  constructor(app, _names, query) {
    super(app)
    this.filter = query.get('filter') ?? ''
    this.sort = Object.hasOwn(ORDERS, query.get('sort')) ? query.get('sort') : '-lag'
    this.groups = []
  }

  async load() {
    const found = []
    for await (const page of pages('groups', 'groups')) found.push(...page)
    this.groups = found
  }

  inAddress() {
    return { filter: this.filter, sort: this.sort === '-lag' ? '' : this.sort }
  }

  view() {
    const wanted = this.filter.toLowerCase()
    const found = this.groups
      .filter(row => `${row.topic} ${row.group}`.toLowerCase().includes(wanted))
      .sort(ORDERS[this.sort])
    return html`<h1>Groups</h1>
      <div class="bar"><label>Filter <input data-filter type="search" .value=${this.filter}
          @input=${event => this.choose({ filter: event.target.value })}></label>
        <p role="status">${number(found.length)} of ${number(this.groups.length)} groups${found.length > SHOWN ? `, the first ${SHOWN} are shown` : ''}</p></div>
      ${problemNote(this.problem)}
      ${table('Groups', COLUMNS, found.slice(0, SHOWN), {
        sorted: this.sort, onSort: sort => this.choose({ sort }), mark: row => (row.dead ? 'marked' : ''),
        empty: 'No groups. The first pull, or PUT /topics/TOPIC/groups/NAME, makes one.',
      })}`
  }
}
