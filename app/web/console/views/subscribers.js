/** Who listens and works now. */

import { html } from '../vendor/lit-html.js'
import { emptyState, problemNote, table, time } from '../ui.js'
import { visible } from '../text.js'
import { ListScreen } from './screen.js'

const KINDS = { stream: 'event stream', line: 'line port', worker: 'consumer', read: 'waiting read' }
const COLUMNS = [
  { title: 'Client', cell: row => visible(row.who) },
  { title: 'Kind', cell: row => KINDS[row.kind] ?? row.kind },
  { title: 'Topics', cell: row => row.topics.join(', ') },
  { title: 'Group', cell: row => row.group ?? '–' },
  { title: 'Since', cell: row => time(row.since) },
  { title: 'State', cell: row => (row.state === 'catching_up' ? 'catching up' : row.state ?? (row.leased === undefined ? '–' : `${row.leased} leased`)) },
  { title: 'Position', cell: row => (row.position ? html`<code>${row.position}</code>` : '–') },
]

export class Subscribers extends ListScreen {
  title = 'Subscribers'
  name = 'subscribers'
  sorts = [undefined] // in the order in which they came

  constructor(app, _names, query) {
    super(app, query)
  }

  view() {
    return html`<h1>Subscribers and consumers</h1>
      ${this.bar('connection', 'part of a client, topic or group')}
      ${problemNote(this.problem, () => this.refresh())}
      ${table('Subscribers and consumers', COLUMNS, this.rows, { empty: this.empty() })}
      ${this.pager()}`
  }

  empty() {
    if (!this.loaded) return 'Loading …'
    if (this.filter) return 'Nobody is called so.'
    return emptyState('Nobody listens now.', html`Listen in a terminal: <code>curl -N ${new URL('topics/TOPIC/stream', document.baseURI).href}</code>`)
  }
}
