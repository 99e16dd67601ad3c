/** The server: its limits and how full they are, and the settings in force. */

import { html, nothing } from '../vendor/lit-html.js'
import { get } from '../api.js'
import { bytes, exact, quoted } from '../format.js'
import { command, problemNote, table, time } from '../ui.js'
import { Screen } from './screen.js'

const SETTINGS = [
  { title: 'Setting', cell: row => html`<code>${row.name}</code>` },
  { title: 'Value', cell: row => html`<code>${row.value}</code>` },
  { title: 'From', cell: row => row.source },
  { title: 'Meaning', cell: row => row.help },
]
const amount = (row, value) => (row.unit === 'bytes' ? bytes(value) : exact(value))
const LIMITS = [
  { title: 'Limit', cell: row => row.name },
  { title: 'Used', number: true, cell: row => amount(row, row.used) },
  { title: 'Of', number: true, cell: row => amount(row, row.limit) },
  { title: '', label: 'How full', cell: row => html`<meter aria-label="How full: ${row.name}" min="0" max=${row.limit} high=${0.8 * row.limit} value=${row.used}></meter>` },
  { title: 'Setting', cell: row => (row.setting ? html`<code>${row.setting}</code>` : '–') },
]

export class Server extends Screen {
  title = 'Server'

  constructor(app) {
    super(app)
    this.server = null
    this.all = false
  }

  async load(signal) {
    this.server = await get('server', {}, signal)
  }

  view() {
    const { server } = this
    if (!server) return html`<h1>Server</h1>${this.problem ? problemNote(this.problem, () => this.refresh()) : html`<p aria-busy="true">Loading …</p>`}`
    const settings = server.settings.filter(row => this.all || row.source !== 'default')
    return html`<h1>Server</h1>
      ${problemNote(this.problem, () => this.refresh())}
      <dl class="facts">${this.facts(server).map(([term, value]) => html`<div><dt>${term}</dt><dd>${value}</dd></div>`)}</dl>
      <section aria-labelledby="limits"><h2 id="limits">Limits</h2>${table('Limits', LIMITS, server.limits)}</section>
      ${server.engine === 'sqlite' ? this.backup(server) : nothing}
      <section aria-labelledby="settings"><h2 id="settings">Settings</h2>
        <label class="check"><input type="checkbox" .checked=${this.all} @change=${event => (this.all = event.target.checked, this.app.redraw())}> Show those with their default, too</label>
        ${table('Settings', SETTINGS, settings, { empty: 'All settings have their defaults.' })}</section>`
  }

  facts(server) {
    return [
      ['Version', server.version], ['Engine', server.engine], ['Messages survive', { disk: 'a crash (on disk)', memory: 'no restart (in memory)' }[server.durability] ?? server.durability],
      ['Epoch', html`<code>${server.epoch}</code>`], ['Started', time(server.started)],
      ['Accepts messages', server.unready ?? (server.draining ? 'no: it is stopping' : server.journal?.connected === false ? 'no: the journal cannot be reached' : 'yes')],
      ...(server.journal ? [['Servers on this log', server.journal.nodes.length]] : []),
    ]
  }

  backup(server) {
    const engine = server.settings.find(row => row.name === 'engine')?.value ?? ''
    return html`<section aria-labelledby="backup"><h2 id="backup">Backup</h2>
      <p class="hint">On the machine of the server, this copies the log while it is served:</p>
      ${command(`plainmq backup COPY --engine ${quoted(engine)}`, 'The command that makes a backup', this.app)}</section>`
  }
}
