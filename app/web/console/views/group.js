/** One group: the life of its messages with live counts, what is stuck, and what can be done about it. */

import { html, nothing } from '../vendor/lit-html.js'
import { ask, get, groupPath, send } from '../api.js'
import { duration, exact, number, plural } from '../format.js'
import { attributes, body, emptyState, groupFields, groupSettings, paused, problemNote, table, time, topicLink } from '../ui.js'
import { visible } from '../text.js'
import { PagedScreen } from './screen.js'

const MOST_RATE = 1_000 // redriven messages a second that may be asked for (the server's bound)
const MOST_CONSUMERS = 100 // rows
/** The states of a message, with what each means, and what is said where there is none. */
const STATES = {
  ready: ['wait for a consumer', 'Nothing waits: all messages are handed out or done.'],
  leased: ['a consumer works on them', 'No consumer holds a message now.'],
  delayed: ['failed, and are tried again later', 'Nothing waits to be tried again.'],
  dead: ['given up: look at the reason, then redrive', 'No message has been given up.'],
}

export class Group extends PagedScreen {
  interval = 2_000
  pageSize = 50

  constructor(app, [topic = '', group = ''], query) {
    super(app)
    this.topic = topic
    this.group = group
    this.title = `${group} of ${topic}`
    this.given = query.get('state')
    this.state = null
    this.jobs = []
    this.consumers = []
    this.chosen = new Set()
    this.opened = new Set()
  }

  /** The state whose messages are listed: at first the one that needs attention most. */
  get listed() {
    if (Object.hasOwn(STATES, this.given)) return this.given
    if (this.state?.dead) return 'dead'
    return this.state?.leased ? 'leased' : 'ready'
  }

  start() {
    super.start()
    this.seconds = setInterval(() => document.hidden || this.app.redraw(), 1_000) // leases count down
  }

  stop() {
    super.stop()
    clearInterval(this.seconds)
  }

  async load(signal) {
    const { session } = this.app
    this.state = await get(groupPath(this.topic, this.group), {}, signal)
    const { listed } = this
    const page = await get('jobs', { topic: this.topic, group: this.group, state: listed, after: this.after.at(-1), limit: this.pageSize }, signal)
    if (this.state.workers && session.may('view admin', this.topic)) {
      const { subscribers } = await get('subscribers', { match: this.topic, search: this.group, limit: MOST_CONSUMERS }, signal)
      this.consumers = subscribers.filter(one => one.group === this.group)
    } else this.consumers = []
    Object.assign(this, { jobs: page.jobs, next: page.next })
    const present = ids => new Set(page.jobs.map(job => job.id).filter(id => ids.has(id)))
    this.chosen = present(this.chosen)
    this.opened = present(this.opened)
  }

  show(state) {
    this.chosen.clear()
    this.choose({ given: state, after: [], jobs: [], next: null, loaded: false })
    this.refresh()
  }

  inAddress() {
    return { state: this.given ?? '' }
  }

  // Actions

  async act(verb, json, { question, done, parameters = () => ({}) }) {
    const values = question ? await this.app.dialogs.ask(question) : {}
    if (!values) return
    await this.app.attempt(() => ask('POST', groupPath(this.topic, this.group, verb), { json, parameters: parameters(values) }), done)
    this.chosen.clear()
    await this.refresh()
  }

  ids() {
    return [...this.chosen]
  }

  async redrive(all) {
    const { topics: [topic] } = await get('topics', { match: this.topic })
    if (topic?.paused) {
      await this.app.dialogs.ask({
        title: `${this.topic} is paused`,
        text: html`<p>While publishing to it is paused, nothing goes back to its groups. Resume it under Settings on the screen of ${topicLink(this.topic)}, then redrive.</p>`,
      })
      return
    }
    const count = all ? this.state.dead : this.chosen.size
    await this.act('redrive', all ? { all: true } : { ids: this.ids() }, {
      question: {
        title: `Redrive ${plural(count, 'message')}?`,
        text: html`<ul class="consequences">
          <li>They leave <b>${this.state.dead_letter}</b> and go back to <b>${this.group}</b> alone, with their attempts counted anew.</li>
          <li>Other groups and subscribers do not see them again.</li>
          <li>What fails again is dead again after ${plural(this.state.max_deliveries, 'delivery')}.</li>
          ${this.state.paused ? html`<li class="warning">The group is paused: they wait until it is resumed.</li>` : nothing}
          ${this.state.workers ? nothing : html`<li class="warning">No consumer works now: they wait for one.</li>`}</ul>`,
        fields: () => html`<label>Hand out at most so many a second <input name="rate" type="number" min="1" max=${MOST_RATE} placeholder="as fast as consumers take them"
          aria-describedby="bound"></label><p class="hint" id="bound">From 1 to ${exact(MOST_RATE)}, for this redrive: it spares what failed before.</p>`,
        action: 'Redrive',
      },
      parameters: ({ rate }) => ({ rate }),
      done: answer => `${plural(answer.redriven, 'message')} went back${answer.left ? `; ${number(answer.left)} dead are left` : ''}.`,
    })
  }

  release() {
    return this.act('release', { ids: this.ids() }, {
      question: {
        title: `Release ${plural(this.chosen.size, 'message')}?`,
        text: html`<p>${this.listed === 'leased'
          ? 'Each is handed out again at once. A consumer that still works on it can no longer ack it, so it may be worked on twice.'
          : 'Each is tried again at once, and no longer waits.'}</p>`,
        action: 'Release',
      },
      done: 'Released.',
    })
  }

  skip() {
    return this.act('skip', { ids: this.ids() }, {
      question: {
        title: `Skip ${plural(this.chosen.size, 'message')}?`, text: html`<p>${this.group} will never get them again. Other groups will.</p>`,
        action: 'Skip', word: 'skip',
      },
      done: 'Skipped.',
    })
  }

  seek(event) {
    event.preventDefault()
    const to = event.target.elements.to.value.trim()
    return this.act('seek', { to }, {
      question: {
        title: `Move ${this.group} to ${to}?`,
        text: html`<p>Everything up to there counts as done for this group, and everything behind it is handed out, also what was acked before. Leases behind it stay.</p>`,
        action: 'Move', word: this.group,
      },
      done: 'Moved.',
    })
  }

  purge() {
    return this.act('seek', { to: 'latest' }, {
      question: {
        title: `Purge what ${this.group} has not acked?`,
        text: html`<p>${plural(this.state.lag, 'message')} count as done for this group: what is ready, leased and delayed is never handed out again.
          The messages stay in <b>${this.topic}</b>, for other groups and subscribers. Dead messages stay too.</p>`,
        action: 'Purge', word: this.group,
      },
      done: 'Nothing waits for the group any more.',
    })
  }

  async configure(event) {
    event.preventDefault()
    const settings = groupSettings(new FormData(event.target))
    await this.app.attempt(() => ask('PUT', groupPath(this.topic, this.group), { json: settings }), 'The settings are changed.')
    this.refresh()
  }

  pause() {
    const verb = this.state.paused ? 'resume' : 'pause'
    return this.act(verb, undefined, {
      question: this.state.paused ? null : {
        title: `Pause ${this.group}?`, text: html`<p>Consumers get no more messages until it is resumed. What they hold they can still ack. Publishing goes on.</p>`, action: 'Pause',
      },
      done: `The group is ${verb}d.`,
    })
  }

  async remove() {
    const agreed = await this.app.dialogs.ask({
      title: `Delete ${this.group}?`, text: html`<p>Its consumers end, and ${plural(this.state.lag, 'message')} that it has not acked are no longer held for it. Its dead messages stay in <b>${this.state.dead_letter}</b>, but can no longer be redriven.</p>`,
      action: 'Delete', word: this.group,
    })
    if (agreed && (await this.app.attempt(() => send('DELETE', groupPath(this.topic, this.group)), `${this.group} is deleted.`))) this.app.go('/groups')
  }

  // Drawing

  view() {
    const { state } = this
    if (!state) return html`<h1>${this.group}</h1>${this.problem ? problemNote(this.problem, () => this.refresh()) : html`<p aria-busy="true">Loading …</p>`}`
    const admin = this.app.session.may('admin', this.topic)
    return html`<h1>${this.group} <small>group of ${topicLink(this.topic)}</small>${paused(state)}</h1>
      ${problemNote(this.problem, () => this.refresh())}
      ${this.life(state)}
      <p class="hint">A lease lasts ${state.ack_timeout}; a message is dead after ${plural(state.max_deliveries, 'delivery')}, and goes to ${topicLink(state.dead_letter)}.
        ${state.oldest ? html`The oldest that is not acked is from ${time(state.oldest.time)}.` : nothing}
        ${state.dead_letters?.waiting ? html`<b class="problem">${plural(state.dead_letters.waiting, 'dead message')} wait for space in ${topicLink(state.dead_letter)}: purge it, or let it retain more.</b>` : nothing}</p>
      ${this.list(admin)}
      ${this.workers(state)}
      ${admin ? this.operations(state) : nothing}`
  }

  /** The life of a message as a picture, with the counts in it. Each state is a button that lists its messages. */
  life(state) {
    const stage = (name, count) => html`<button class="stage ${name} ${name === 'dead' && count ? 'some' : ''}" aria-pressed=${this.listed === name} aria-controls="jobs" @click=${() => this.show(name)}>
      <span class="count">${number(count)}</span><span class="name">${name}</span><span class="meaning">${STATES[name][0]}</span></button>`
    return html`<section aria-labelledby="life"><h2 id="life" class="unseen">The life of a message in this group</h2>
      <ol class="life">
        <li>${stage('ready', state.ready)}</li>
        <li class="then">${stage('leased', state.leased)}</li>
        <li class="then"><div class="stage acked"><span class="count">${number(state.acked)}</span><span class="name">acked</span><span class="meaning">done</span></div></li>
        <li class="back">${stage('delayed', state.delayed)}</li>
        <li class="down">${stage('dead', state.dead)}</li>
      </ol></section>`
  }

  list(admin) {
    const { listed } = this
    const columns = [
      ...(admin ? [{ title: '', label: 'Choose', cell: job => html`<input type="checkbox" aria-label="Choose ${job.id}" .checked=${this.chosen.has(job.id)} @change=${event => this.mark(job.id, event.target.checked)}>` }] : []),
      { title: 'Message', cell: job => html`<code>${job.id}</code><br>${time(job.time)}${job.original && job.original !== job.id ? html`<br><span class="hint">originally <code>${job.original}</code></span>` : nothing}` },
      ...COLUMNS[listed],
      { title: 'Content', cell: job => html`${job.event ? html`<b class="badge">${visible(job.event)}</b> ` : nothing}${attributes(job)}${body(job, this.opened, () => this.app.redraw())}` },
    ]
    const count = listed === 'dead' ? this.state.dead : this.state[listed]
    return html`<section id="jobs" aria-labelledby="jobs-title"><h2 id="jobs-title">${listed[0].toUpperCase() + listed.slice(1)} <small>${this.shown(this.jobs.length, Math.max(count, this.jobs.length), 'message')}</small></h2>
      ${admin ? this.actions(listed) : nothing}
      ${table(`Messages that are ${listed}`, columns, this.jobs, { empty: this.loaded ? emptyState(STATES[listed][1]) : 'Loading …' })}
      ${this.pager()}
    </section>`
  }

  mark(id, chosen) {
    this.chosen[chosen ? 'add' : 'delete'](id)
    this.app.redraw()
  }

  /** Choose all messages of this page, or none. */
  markAll() {
    const all = this.chosen.size < this.jobs.length
    this.chosen = new Set(all ? this.jobs.map(job => job.id) : [])
    this.app.redraw()
  }

  actions(listed) {
    if (!this.jobs.length) return nothing
    const none = !this.chosen.size
    const chosen = none ? 'chosen' : `${number(this.chosen.size)} chosen`
    const choose = html`<button @click=${() => this.markAll()}>${this.chosen.size < this.jobs.length ? 'Choose all on this page' : 'Choose none'}</button>`
    if (listed === 'dead') {
      if (!this.app.session.may('admin', this.state.dead_letter)) return html`<p class="hint">To redrive, a token needs the right <code>admin</code> on ${this.state.dead_letter} too.</p>`
      return html`<p class="actions">${choose}<button class="primary" ?disabled=${none} @click=${() => this.redrive(false)}>Redrive ${chosen} …</button>
        <button ?disabled=${!this.state.dead} @click=${() => this.redrive(true)}>Redrive all ${number(this.state.dead)} …</button></p>`
    }
    return html`<p class="actions">${choose}
      ${listed === 'ready' ? nothing : html`<button ?disabled=${none} @click=${() => this.release()}>Release ${chosen} …</button>`}
      <button class="danger" ?disabled=${none} @click=${() => this.skip()}>Skip ${chosen} …</button></p>`
  }

  workers(state) {
    const title = html`<h2 id="consumers">Consumers <small>${number(state.workers)}</small></h2>`
    if (!state.workers) {
      return html`<section aria-labelledby="consumers">${title}<p class="hint">Nobody waits for messages now. A consumer that pulls works without a connection of its own, and is seen while it waits.</p></section>`
    }
    if (!this.consumers.length) return html`<section aria-labelledby="consumers">${title}</section>`
    return html`<section aria-labelledby="consumers">${title}${table('Consumers', CONSUMERS, this.consumers)}</section>`
  }

  operations(state) {
    return html`<details class="sheet"><summary>Operations</summary>
      <form class="fields" @submit=${event => this.configure(event)}>${groupFields(state)}<button class="primary">Change</button></form>
      <form class="bar" @submit=${event => this.seek(event)}>
        <label>Replay: move the group to <input name="to" required list="places" placeholder="earliest, an id, a time, 10m"></label>
        <datalist id="places"><option value="earliest"></option><option value="latest"></option></datalist><button>Move …</button></form>
      <p class="actions"><button @click=${() => this.pause()}>${state.paused ? 'Resume' : 'Pause …'}</button>
        <button class="danger" ?disabled=${!state.lag} @click=${() => this.purge()}>Purge unacked …</button>
        <button class="danger" @click=${() => this.remove()}>Delete …</button></p>
    </details>`
  }
}

const CONSUMERS = [
  { title: 'Client', cell: one => visible(one.who) },
  { title: 'Since', cell: one => time(one.since) },
  { title: 'Leased', number: true, cell: one => number(one.leased) },
]

/** How long until then, as a countdown that is short of time when it is marked. */
const left = until => {
  const seconds = (Date.parse(until) - Date.now()) / 1_000
  if (seconds <= 0) return html`<b class="warning">over</b>`
  return html`<span class=${seconds < 5 ? 'countdown warning' : 'countdown'}>${duration(Math.ceil(seconds))}</span>`
}

const FAILURE = [
  { title: 'Attempts', number: true, cell: job => job.attempt ?? job.dead?.attempts ?? '–' },
  { title: 'Reason', cell: job => html`<span class="reason">${visible(job.reason ?? job.dead?.reason ?? '') || '–'}</span>` },
]
const COLUMNS = {
  ready: FAILURE,
  leased: [
    { title: 'Attempt', number: true, cell: job => job.attempt },
    { title: 'Consumer', cell: job => visible(job.consumer ?? '–') },
    { title: 'Since', cell: job => time(job.since) },
    { title: 'Lease ends in', number: true, cell: job => left(job.until) },
  ],
  delayed: [...FAILURE, { title: 'Again in', number: true, cell: job => left(job.due) }],
  dead: [...FAILURE, { title: 'Last failure', cell: job => time(job.dead?.last_failure) }],
}
