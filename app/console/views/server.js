/** The server: its limits and how full they are, and the settings in force. */

import { html, nothing } from '../vendor/lit-html.js'
import { get } from '../api.js'
import { bytes, number, quoted } from '../format.js'
import { problemNote, table, time } from '../ui.js'
import { Screen } from './screen.js'

const SETTINGS = [
  { title: 'Setting', cell: row => html`<code>${row.name}</code>` },
  { title: 'Value', cell: row => html`<code>${row.value}</code>` },
  { title: 'From', cell: row => row.source },
  { title: 'Meaning', cell: row => row.help },
]
const amount = (row, value) => (row.unit === 'bytes' ? bytes(value) : number(value))
const LIMITS = [
  { title: 'Limit', cell: row => row.name },
  { title: 'Used', number: true, cell: row => amount(row, row.used) },
  { title: 'Of', number: true, cell: row => amount(row, row.limit) },
  { title: 'Setting', cell: row => (row.setting ? html`<code>${row.setting}</code>` : '–') },
  { title: '', cell: row => html`<meter aria-label=${row.name} min="0" max=${row.limit} high=${0.8 * row.limit} value=${row.used}></meter>` },
]

export class Server extends Screen {
  title = 'Server'

  constructor(app) {
    super(app)
    this.server = null
    this.all = false
  }

  async load() {
    this.server = await get('server')
  }

  view() {
    const { server } = this
    if (!server) return html`<h1>Server</h1>${problemNote(this.problem)}`
    const value = name => server.settings.find(row => row.name === name)?.value ?? ''
    const settings = server.settings.filter(row => this.all || row.source !== 'default')
    return html`<h1>Server</h1>
      <p>plainmq ${server.version}, engine ${server.engine}, durability ${server.durability}, epoch ${server.epoch}, started ${time(server.started)}</p>
      ${table('Limits', LIMITS, server.limits)}
      ${server.engine === 'sqlite' ? html`<p>To copy the log while it is served: <code>plainmq backup COPY --engine ${quoted(value('engine'))}</code></p>` : nothing}
      <label class="bar"><input type="checkbox" .checked=${this.all} @change=${event => { this.all = event.target.checked; this.app.redraw() }}> Show settings that have their default, too</label>
      ${table('Settings', SETTINGS, settings, { empty: 'All settings have their defaults.' })}`
  }
}
