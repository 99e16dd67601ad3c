/** One topic: its messages, a form that publishes, its settings, its groups, and who listens. */

import { repeat } from '../vendor/directives/repeat.js'
import { html, nothing } from '../vendor/lit-html.js'
import { address, ask, get, Problem, send, topicPath } from '../api.js'
import { bytes, exact, number, plural } from '../format.js'
import { isControl, LIVE, recordOf, searched, Tail } from '../tail.js'
import { attributes, body, command, emptyState, groupLink, paused, problemNote, table, time } from '../ui.js'
import { visible } from '../text.js'
import { Screen } from './screen.js'

const FORMS = { auto: 'automatic', text: 'text', json: 'JSON', hex: 'bytes' }
const REASONS = { trimmed: 'retention removed them', epoch: 'the log has begun anew', ahead: 'the id is not given yet' }
const USUAL = 'last:50'
const MOST_GROUPS = 100 // rows
const GROUPS = [
  { title: 'Group', cell: row => html`${groupLink(row.topic, row.group)}${paused(row)}` },
  { title: 'Ready', number: true, cell: row => number(row.ready) },
  { title: 'Leased', number: true, cell: row => number(row.leased) },
  { title: 'Delayed', number: true, cell: row => number(row.delayed) },
  { title: 'Dead', number: true, cell: row => (row.dead ? groupLink(row.topic, row.group, 'dead', number(row.dead)) : '0') },
  { title: 'Consumers', number: true, cell: row => number(row.workers) },
]
const PRIORITIES = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9']

export class Topic extends Screen {
  constructor(app, [topic = ''], query) {
    super(app)
    this.topic = topic
    this.title = topic
    this.filter = query.get('filter') ?? ''
    this.from = query.get('from') ?? USUAL
    this.form = Object.hasOwn(FORMS, query.get('form')) ? query.get('form') : 'auto'
    this.state = null
    this.groups = []
    this.opened = new Set()
    this.draft = app.draftFor(topic)
    this.isBegun = this.draft.body !== ''
    const { session } = app
    this.lists = session.may('view admin', topic)
    this.tail = session.may('subscribe', topic) ? new Tail(topic, this.from, () => this.changed()) : null
  }

  stop() {
    super.stop()
    this.tail?.close()
  }

  changed() {
    if (this.stopped) return
    if (this.tail.problem?.status === 401) this.app.expired()
    if (this.opened.size) {
      const present = new Set(this.tail.entries.map(entry => entry.id))
      this.opened = new Set([...this.opened].filter(id => present.has(id)))
    }
    this.app.redraw()
  }

  /** A list of one topic is no error when there is none yet. */
  async load(signal) {
    if (this.lists) {
      this.state = (await get('topics', { match: this.topic }, signal)).topics[0] ?? null
      this.groups = this.state?.groups.length ? (await get('groups', { match: this.topic, limit: MOST_GROUPS }, signal)).groups : []
    } else if (this.tail) {
      try {
        this.state = await get(topicPath(this.topic), {}, signal)
      } catch (problem) {
        if (problem.status !== 404) throw problem
        this.state = null
        this.interval = clearInterval(this.timer) // no more is known of it than that
      }
    }
  }

  choose(changes) {
    const { from } = this
    super.choose(changes)
    if (this.from !== from) this.tail?.begin(this.from)
  }

  inAddress() {
    const { filter, from, form } = this
    return { filter, from: from === USUAL ? '' : from, form: form === 'auto' ? '' : form }
  }

  // Actions

  async publish(event) {
    event.preventDefault()
    const action = () => {
      try {
        return ask('POST', topicPath(this.topic, 'messages'), this.draft.request())
      } catch (error) {
        throw new Problem(400, 'option_invalid', `A header cannot be sent: ${error.message}`)
      }
    }
    await this.app.attempt(action, receipt => (receipt.due
      ? `Scheduled as ${receipt.id}: see it under Scheduled.`
      : `Published as ${receipt.id}, to ${plural(receipt.subscribers, 'subscriber')}.`))
    this.refresh()
  }

  async copy(record) {
    const values = await this.app.dialogs.ask({
      title: 'Copy this message?',
      text: html`<p>A new message with the same body, type, event, headers, priority and key is published to another topic. <code>${record.id}</code> stays here.</p>`,
      fields: () => html`<label>To the topic <input name="to" required maxlength="1024"></label>`,
      action: 'Copy',
    })
    if (!values) return
    await this.app.attempt(() => ask('POST', topicPath(record.topic, 'messages', record.id, 'copy'), { parameters: { to: values.to.trim() } }),
      receipt => `Copied to ${receipt.topic} as ${receipt.id}.`)
  }

  async configure(event) {
    event.preventDefault()
    const form = new FormData(event.target)
    const settings = { max_messages: Number(form.get('max_messages')), max_bytes: Number(form.get('max_bytes')), max_age: form.get('max_age') }
    await this.app.attempt(() => ask('PUT', topicPath(this.topic), { json: settings }), 'The retention is changed.')
    this.refresh()
  }

  async pause() {
    const verb = this.state.paused ? 'resume' : 'pause'
    const agreed = this.state.paused || await this.app.dialogs.ask({
      title: `Pause publishing to ${this.topic}?`,
      text: html`<p>Publishers get 503 <code>topic_paused</code> until it is resumed. Subscribers and groups go on; scheduled messages and dead letters wait.</p>`, action: 'Pause',
    })
    if (!agreed) return
    await this.app.attempt(() => send('POST', topicPath(this.topic, verb)), `Publishing is ${verb}d.`)
    this.refresh()
  }

  async purge() {
    const agreed = await this.app.dialogs.ask({
      title: `Purge ${this.topic}?`,
      text: html`<p>${plural(this.state.messages, 'message')} will be removed, also those that groups have not acked. Settings and groups stay.</p>`,
      action: 'Purge', word: this.topic,
    })
    if (!agreed) return
    await this.app.attempt(() => ask('POST', topicPath(this.topic, 'purge')), answer => `${plural(answer.purged, 'message')} removed.`)
    this.refresh()
  }

  async remove() {
    const agreed = await this.app.dialogs.ask({
      title: `Delete ${this.topic}?`,
      text: html`<p>Its ${plural(this.state.messages, 'message')}, ${plural(this.state.groups.length, 'group')}, ${plural(this.state.delayed, 'scheduled message')} and settings will be gone.</p>`,
      action: 'Delete', word: this.topic,
    })
    if (agreed && (await this.app.attempt(() => send('DELETE', topicPath(this.topic)), `${this.topic} is deleted.`))) this.app.go('/topics')
  }

  // Drawing

  view() {
    const { session } = this.app
    const { state } = this
    return html`<h1>${this.topic}${state ? paused(state) : nothing}</h1>
      ${problemNote(this.problem, () => this.refresh())}
      ${this.summary()}
      ${session.may('publish', this.topic) ? this.publishForm() : nothing}
      ${this.tail ? this.messages() : html`<p class="note">To see the messages, a token needs the right <code>subscribe</code> on this topic.</p>`}
      ${this.groups.length ? html`<section aria-labelledby="groups"><h2 id="groups">Groups</h2>${table('Groups', GROUPS, this.groups)}</section>` : nothing}
      ${state && session.may('admin', this.topic) ? this.settings(state) : nothing}`
  }

  summary() {
    const { state } = this
    if (!state) return this.loaded && (this.lists || this.tail) ? html`<p class="hint">This topic holds nothing yet. The first message makes it.</p>` : nothing
    const scheduled = state.delayed
      ? (this.lists ? html`<a href="#/scheduled?match=${encodeURIComponent(this.topic)}">${plural(state.delayed, 'message')} scheduled</a>` : html`${plural(state.delayed, 'message')} scheduled`)
      : 'nothing scheduled'
    const subscribers = plural(state.subscribers, 'subscriber')
    return html`<p class="summary">${plural(state.messages, 'message')} · ${bytes(state.bytes)} · ${number(state.rate)} a second ·
      ${this.lists ? html`<a href="#/subscribers?filter=${encodeURIComponent(this.topic)}">${subscribers}</a>` : subscribers} · ${scheduled}</p>`
  }

  publishForm() {
    const { draft } = this
    const set = (target, name) => event => {
      target[name] = event.target.value
      this.app.redraw()
    }
    const option = (name, title, hint, disabled = false) => html`<label>${title} <input placeholder=${hint} maxlength="128" ?disabled=${disabled} .value=${draft.options[name]} @input=${set(draft.options, name)}></label>`
    return html`<details class="sheet publish" ?open=${this.isBegun}><summary>Publish</summary>
      <form @submit=${event => this.publish(event)}>
        <label>Body <textarea rows="4" .value=${draft.body} @input=${set(draft, 'body')}></textarea></label>
        <div class="fields">
          <label>Content type <input placeholder="text/plain" maxlength="255" .value=${draft.content_type} @input=${set(draft, 'content_type')}></label>
          ${option('event', 'Event name', 'such as price')}
          ${option('key', 'Key', draft.isForGroups ? 'in order, one at a time in a group' : 'only for groups', !draft.isForGroups)}
          <label>Priority <select ?disabled=${!draft.isForGroups} .value=${draft.options.priority} @change=${set(draft.options, 'priority')}>${PRIORITIES.map(level => html`<option value=${level}>${level === '0' ? '0 (usual)' : level}</option>`)}</select></label>
          <label>Delivery <select .value=${draft.options.delivery} @change=${set(draft.options, 'delivery')}><option value="all">to all, and to groups</option><option value="one">to one subscriber</option></select></label>
          ${option('ttl', 'Expires after', 'never, or such as 10m')}
          <label>When <select .value=${draft.when} @change=${set(draft, 'when')}><option value="now">now</option><option value="delay">after a delay</option><option value="at">at a time</option></select></label>
          ${draft.when === 'delay' ? html`<label>Delay <input required placeholder="such as 30s or 2h" .value=${draft.delay} @input=${set(draft, 'delay')}></label>` : nothing}
          ${draft.when === 'at' ? html`<label>Time <input type="datetime-local" required step="1" .value=${draft.at} @input=${set(draft, 'at')}></label>` : nothing}
        </div>
        <label>Headers, one a line <textarea rows="2" placeholder="Customer: 42" .value=${draft.headers} @input=${set(draft, 'headers')}></textarea></label>
        <p class="hint">A header is sent as <code>X-Plainmq-NAME</code>; <code>traceparent</code>, <code>tracestate</code> and <code>ce-NAME</code> keep their names.</p>
        <p class="actions"><button class="primary" ?disabled=${this.state?.paused}>Publish</button>
          ${this.state?.paused ? html`<span class="hint">Publishing is paused: resume it under Settings.</span>` : nothing}</p>
      </form>
      <p class="hint">The same in a terminal:</p>${command(draft.curl(this.app.session.anonymous), 'The same as a curl command', this.app)}
    </details>`
  }

  messages() {
    const { tail } = this
    const wanted = this.filter.toLowerCase()
    const shown = tail.entries.filter(entry => isControl(entry) || !wanted || searched(recordOf(entry)).includes(wanted))
    const live = tail.stream !== null
    return html`<section aria-labelledby="messages"><h2 id="messages">Messages</h2>
      <div class="bar">
        ${live
          ? html`<button aria-pressed=${tail.paused} @click=${() => tail.pause(!tail.paused)}>${tail.paused ? 'Resume' : 'Pause'}</button>`
          : html`<button class="primary" @click=${() => this.choose({ from: USUAL })}>Follow what arrives</button>`}
        <label>Filter <input data-filter type="search" placeholder="in what is shown" .value=${this.filter} @input=${event => this.choose({ filter: event.target.value })}></label>
        <label>Show as <select @change=${event => this.choose({ form: event.target.value })}>
          ${Object.entries(FORMS).map(([form, title]) => html`<option value=${form} ?selected=${form === this.form}>${title}</option>`)}</select></label>
        <form @submit=${event => (event.preventDefault(), this.choose({ from: event.target.elements.from.value.trim() || USUAL }))}>
          <label>Go to <input name="from" .value=${this.from} list="starts" size="14" aria-describedby="places"></label><button>Go</button>
          <datalist id="starts"><option value="latest"></option><option value="earliest"></option><option value="last:50"></option><option value="10m"></option></datalist>
        </form>
        <p id="places" class="hint">an id, a time, <code>10m</code> ago, <code>earliest</code>, <code>last:50</code></p>
      </div>
      <p class="progress"><span role="status" class="state ${tail.state}">${this.progress()}</span> <span>${this.counts(shown.length)}</span></p>
      ${problemNote(tail.problem && tail.state !== 'lost' ? tail.problem : null, () => tail.begin(this.from))}
      ${live || tail.atEnd ? nothing : html`<button @click=${() => tail.newer()}>Newer messages</button>`}
      <div role="log" aria-live="off" aria-label="Messages, the newest first" tabindex="0"><ol class="messages">
        ${repeat(shown.reverse(), entry => entry, entry => (isControl(entry) ? control(entry) : this.message(recordOf(entry))))}
      </ol></div>
      ${shown.length || tail.state === 'connecting' ? nothing : emptyState(wanted ? 'No message that is shown has this text.' : 'No messages here.', wanted ? '' : 'What is published appears here by itself.')}
      ${tail.atBeginning ? html`<p class="hint">Nothing older is retained.</p>` : html`<button @click=${() => tail.older()}>Older messages</button>`}
    </section>`
  }

  progress() {
    return { connecting: 'Connecting …', open: 'Live', resting: 'Resting in the background', lost: 'Connection lost, trying again …', refused: 'Refused', reading: 'Reading what is retained' }[this.tail.state]
  }

  counts(shown) {
    const { tail } = this
    const parts = [`${plural(shown, 'message')} shown`]
    if (tail.stream) parts.push(`${exact(tail.arrived)} arrived`)
    if (tail.skipped) parts.push(`${exact(tail.skipped)} passed by: the newest ${LIVE} are shown`)
    const waiting = tail.waiting.length + tail.missed
    if (waiting) parts.push(`${exact(waiting)} wait until you resume`)
    if (!tail.atEnd) parts.push('newer ones are not shown')
    return parts.join(' · ')
  }

  message(record) {
    const whole = address(topicPath(record.topic, 'messages', record.id)).href
    return html`<li><div class="meta"><code>${record.id}</code> ${time(record.time)}
        ${record.event ? html`<b class="badge">${visible(record.event)}</b>` : nothing}
        ${record.dead ? html`<span class="problem">dead in ${record.dead.group} after ${plural(record.dead.attempts, 'attempt')}: ${visible(record.dead.reason)}</span>` : nothing}
        ${attributes(record)}
        <span class="links"><a href=${whole} target="_blank" rel="noopener" aria-label="Whole body of ${record.id}">whole body</a>
          ${this.app.session.rights.publish?.length ? html`<button class="plain" aria-label="Copy ${record.id} to another topic" @click=${() => this.copy(record)}>copy to …</button>` : nothing}</span></div>
      ${body(record, this.opened, () => this.app.redraw(), this.form)}</li>`
  }

  settings(state) {
    return html`<details class="sheet"><summary>Settings</summary>
      <form class="fields" @submit=${event => this.configure(event)}>
        <label>Retain at most so many messages <input name="max_messages" type="number" min="1" required .value=${state.retention.max_messages}></label>
        <label>Retain at most so many bytes <input name="max_bytes" type="number" min="1" required .value=${state.retention.max_bytes}></label>
        <label>Retain for at most <input name="max_age" required .value=${state.retention.max_age}></label>
        <button class="primary">Change</button>
      </form>
      <p class="actions"><button @click=${() => this.pause()}>${state.paused ? 'Resume publishing' : 'Pause publishing …'}</button>
        <button class="danger" ?disabled=${!state.messages} @click=${() => this.purge()}>Purge …</button>
        <button class="danger" @click=${() => this.remove()}>Delete …</button></p>
    </details>`
  }
}

function control(entry) {
  const data = JSON.parse(entry.data)
  const texts = {
    gap: () => `Gap: ${data.missed === null ? 'messages are' : `${plural(data.missed, 'message')} ${data.missed === 1 ? 'is' : 'are'}`} missing, since ${REASONS[data.reason] ?? data.reason}.`,
    rest: () => `${plural(data.missed, 'message')} arrived while this page was in the background, and are not shown here.`,
    bye: () => `The server ended the stream (${data.reason}); the page comes back by itself.`,
    busy: () => `The server has no place for this stream now (${data.reason}); the page comes back by itself.`,
  }
  return html`<li class="control">${texts[entry.type]()}</li>`
}
