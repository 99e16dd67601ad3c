/** One group: the life of its messages with live counts, what is stuck, and what can be done about it. */

import { html, nothing } from '../vendor/lit-html.js'
import { ask, get, groupPath, send } from '../api.js'
import { duration, number, plural } from '../format.js'
import { bodyText, problemNote, size, table, time, topicLink, visible } from '../ui.js'
import { PagedScreen } from './screen.js'

const STATES = ['ready', 'leased', 'delayed', 'dead']
const PAGE = 50 // messages

export class Group extends PagedScreen {
  interval = 2_000

  constructor(app, [topic = '', group = ''], query) {
    super(app)
    this.topic = topic
    this.group = group
    this.title = `${group} of ${topic}`
    this.shown = STATES.includes(query.get('state')) ? query.get('state') : 'leased'
    this.state = null
    this.jobs = []
    this.chosen = new Set()
  }

  start() {
    super.start()
    this.seconds = setInterval(() => this.app.redraw(), 1_000) // leases count down
  }

  stop() {
    super.stop()
    clearInterval(this.seconds)
  }

  async load() {
    this.state = await get(groupPath(this.topic, this.group))
    const { shown } = this
    const page = await get('jobs', { topic: this.topic, group: this.group, state: shown, after: this.after.at(-1), limit: PAGE })
    if (shown !== this.shown) return // another was chosen meanwhile
    Object.assign(this, { jobs: page.jobs, next: page.next })
    this.chosen = new Set(page.jobs.map(job => job.id).filter(id => this.chosen.has(id)))
  }

  show(state) {
    this.chosen.clear()
    this.choose({ shown: state, after: [], jobs: [], next: null })
    this.refresh()
  }

  inAddress() {
    return { state: this.shown === 'leased' ? '' : this.shown }
  }

  // Actions

  async act(verb, json, { title, text, action, word, done, parameters }) {
    if (title && !(await this.app.dialogs.confirm({ title, text, action, word }))) return
    this.chosen.clear()
    await this.app.attempt(() => ask('POST', groupPath(this.topic, this.group, verb), { json, parameters }), done)
    await this.refresh()
  }

  ids() {
    return [...this.chosen]
  }

  redrive(all) {
    const count = all ? this.state.dead : this.chosen.size
    return this.act('redrive', all ? { all: true } : { ids: this.ids() }, {
      title: `Redrive ${plural(count, 'message')}?`,
      text: `They go back to ${this.group} alone, with new attempts. Other groups and subscribers do not see them again.`,
      action: 'Redrive',
      parameters: all && this.rate ? { rate: this.rate } : {},
      done: answer => `${plural(answer.redriven ?? Object.values(answer.results ?? {}).filter(result => result === 'done').length, 'message')} went back.`,
    })
  }

  release() {
    return this.act('release', { ids: this.ids() }, {
      title: `Release ${plural(this.chosen.size, 'message')}?`,
      text: 'Each is handed out again at once. A consumer that still works on it can no longer ack it.',
      action: 'Release', done: 'Released.',
    })
  }

  skip() {
    return this.act('skip', { ids: this.ids() }, {
      title: `Skip ${plural(this.chosen.size, 'message')}?`, text: `${this.group} will never get them again. Other groups will.`,
      action: 'Skip', word: 'skip', done: 'Skipped.',
    })
  }

  seek(event) {
    event.preventDefault()
    const to = event.target.elements.to.value.trim()
    return this.act('seek', { to }, {
      title: `Move ${this.group} to ${to}?`,
      text: 'Everything up to there counts as done for this group, and everything behind it is handed out (again). Leases behind it stay.',
      action: 'Move', word: this.group, done: 'Moved.',
    })
  }

  pause() {
    const verb = this.state.paused ? 'resume' : 'pause'
    return this.act(verb, undefined, { done: `The group is ${verb}d.` })
  }

  async remove() {
    const agreed = await this.app.dialogs.confirm({
      title: `Delete ${this.group}?`, text: `Its consumers end, and ${plural(this.state.lag, 'message')} that it has not acked are no longer held for it.`,
      action: 'Delete', word: this.group,
    })
    if (agreed && (await this.app.attempt(() => send('DELETE', groupPath(this.topic, this.group)), `${this.group} is deleted.`))) this.app.go('/groups')
  }

  // Drawing

  view() {
    const { state } = this
    if (!state) return html`<h1>${this.group}</h1>${this.problem ? problemNote(this.problem) : html`<p aria-busy="true">Loading …</p>`}`
    const admin = this.app.session.may('admin', this.topic)
    return html`<h1>${this.group} <small>of ${topicLink(this.topic)}</small>${state.paused ? html` <b class="badge">paused</b>` : nothing}</h1>
      ${problemNote(this.problem)}
      ${this.life(state)}
      <p>${plural(state.workers, 'consumer')}; lease ${state.ack_timeout}; dead after ${plural(state.max_deliveries, 'delivery').replace('deliverys', 'deliveries')}, to ${topicLink(state.dead_letter)};
        ${state.oldest ? html`the oldest is from ${time(state.oldest.time)}` : 'nothing waits'}</p>
      ${this.list(admin)}
      ${admin ? this.settings(state) : nothing}`
  }

  /** The life of a message as a picture, with the counts in it. */
  life(state) {
    const stage = (name, count) => html`<li><button class="stage ${name}" aria-pressed=${this.shown === name} @click=${() => this.show(name)}>
      <b>${number(count)}</b> ${name}</button></li>`
    return html`<ol class="life" aria-label="The life of a message in this group">
      ${stage('ready', state.ready)}${stage('leased', state.leased)}
      <li><span class="stage acked"><b>${number(state.acked)}</b> acked</span></li>
      ${stage('delayed', state.delayed)}${stage('dead', state.dead)}
    </ol>`
  }

  list(admin) {
    const columns = [
      ...(admin ? [{ title: '', cell: job => html`<input type="checkbox" aria-label="Choose ${job.id}" .checked=${this.chosen.has(job.id)} @change=${event => this.mark(job.id, event.target.checked)}>` }] : []),
      { title: 'Message', cell: job => html`<code>${job.id}</code> ${time(job.time)}` },
      ...COLUMNS[this.shown],
      { title: 'Body', cell: job => body(job) },
    ]
    return html`<section aria-labelledby="jobs"><h2 id="jobs">${this.shown[0].toUpperCase() + this.shown.slice(1)}</h2>
      ${admin ? this.actions() : nothing}
      ${table(`Messages that are ${this.shown}`, columns, this.jobs, { empty: `No message is ${this.shown}.` })}
      ${this.pager()}
    </section>`
  }

  mark(id, chosen) {
    this.chosen[chosen ? 'add' : 'delete'](id)
    this.app.redraw()
  }

  actions() {
    const none = !this.chosen.size
    if (this.shown === 'dead') {
      return html`<p class="actions"><button class="primary" ?disabled=${none} @click=${() => this.redrive(false)}>Redrive chosen</button>
        <button ?disabled=${!this.state.dead} @click=${() => this.redrive(true)}>Redrive all</button>
        <label>at most <input size="6" type="number" min="1" placeholder="any" @input=${event => (this.rate = event.target.value)}> a second</label></p>`
    }
    return html`<p class="actions">
      ${this.shown === 'ready' ? nothing : html`<button ?disabled=${none} @click=${() => this.release()}>Release chosen</button>`}
      <button class="danger" ?disabled=${none} @click=${() => this.skip()}>Skip chosen …</button></p>`
  }

  settings(state) {
    return html`<details><summary>Operations</summary>
      <form class="bar" @submit=${event => this.seek(event)}>
        <label>Move to <input name="to" required list="places" placeholder="earliest, an id, a time"></label>
        <datalist id="places"><option value="earliest"></option><option value="latest"></option></datalist><button>Move …</button></form>
      <p class="actions"><button @click=${() => this.pause()}>${state.paused ? 'Resume' : 'Pause'}</button>
        <button class="danger" @click=${() => this.remove()}>Delete …</button></p>
    </details>`
  }
}

function body(job) {
  const what = `${job.content_type}, ${size(job)}`
  if (job.data === undefined && job.data_base64 === undefined) return html`${what} <span class="hint">(needs the right subscribe)</span>`
  return html`<details><summary>${what}</summary><pre>${bodyText(job, 'auto')}</pre></details>`
}

const left = until => {
  const seconds = (Date.parse(until) - Date.now()) / 1_000
  return seconds > 0 ? duration(Math.ceil(seconds)) : 'now'
}

const FAILURE = [
  { title: 'Attempt', number: true, cell: job => job.attempt ?? job.dead?.attempts ?? '–' },
  { title: 'Reason', cell: job => visible(job.reason ?? job.dead?.reason ?? '') || '–' },
]
const COLUMNS = {
  ready: FAILURE,
  leased: [
    { title: 'Attempt', number: true, cell: job => job.attempt },
    { title: 'Consumer', cell: job => job.consumer ?? '–' },
    { title: 'Since', cell: job => time(job.since) },
    { title: 'Left', number: true, cell: job => left(job.until) },
  ],
  delayed: [...FAILURE, { title: 'Again in', number: true, cell: job => left(job.due) }],
  dead: [...FAILURE, { title: 'Last failure', cell: job => time(job.dead.last_failure) }],
}
