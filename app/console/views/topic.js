/** One topic: its messages as they arrive, a form that publishes, its settings, and who listens. */

import { repeat } from '../vendor/directives/repeat.js'
import { html, nothing } from '../vendor/lit-html.js'
import { address, ask, get, send, topicPath } from '../api.js'
import { bytes, number, plural, quoted } from '../format.js'
import { isControl, recordOf, SHOWN, Tail } from '../tail.js'
import { bodyText, groupLink, problemNote, size, table, time, visible } from '../ui.js'
import { Screen } from './screen.js'

const FORMS = { auto: 'automatic', text: 'text', json: 'JSON', hex: 'hex' }
const REASONS = { trimmed: 'retention removed them', epoch: 'the log has begun anew', ahead: 'the id is not given yet' }
const GROUPS = [
  { title: 'Group', cell: row => groupLink(row.topic, row.group) },
  { title: 'Ready', number: true, cell: row => number(row.ready) },
  { title: 'Leased', number: true, cell: row => number(row.leased) },
  { title: 'Delayed', number: true, cell: row => number(row.delayed) },
  { title: 'Dead', number: true, cell: row => number(row.dead) },
  { title: 'Consumers', number: true, cell: row => number(row.workers) },
]
const OPTIONS = [
  ['event', 'Event name', 'such as price'], ['ttl', 'Time to live', 'such as 10m'], ['delay', 'Delay', 'such as 30s'],
  ['priority', 'Priority', '0 to 9'], ['key', 'Key', 'in order, one at a time'],
]

export class Topic extends Screen {
  constructor(app, [topic = ''], query) {
    super(app)
    this.topic = topic
    this.title = topic
    this.filter = query.get('filter') ?? ''
    this.from = query.get('from') ?? 'last:50'
    this.form = Object.hasOwn(FORMS, query.get('form')) ? query.get('form') : 'auto'
    this.state = null
    this.groups = []
    this.draft = { body: '', content_type: '', delivery: 'all' }
  }

  start() {
    this.follow()
    super.start()
  }

  stop() {
    super.stop()
    this.tail?.close()
  }

  follow() {
    this.tail?.close()
    this.tail = this.app.session.may('subscribe', this.topic) ? new Tail(this.topic, this.from, () => this.changed()) : null
  }

  changed() {
    if (this.tail.problem?.status === 401) this.app.expired()
    this.app.redraw()
  }

  async load() {
    this.state = await this.find()
    this.groups = this.state?.groups.length ? (await get('groups', { match: this.topic, limit: 100 })).groups : []
  }

  /** The topic's state; null if it holds nothing yet. A list of one is no error then. */
  async find() {
    const { session } = this.app
    if (!session.may('view', this.topic) && !session.may('admin', this.topic)) return get(topicPath(this.topic))
    return (await get('topics', { match: this.topic })).topics[0] ?? null
  }

  choose(changes) {
    const { from } = this
    super.choose(changes)
    if (this.from !== from) this.follow()
  }

  inAddress() {
    const { filter, from, form } = this
    return { filter, from: from === 'last:50' ? '' : from, form: form === 'auto' ? '' : form }
  }

  // Actions

  parameters() {
    const { body, content_type, ...options } = this.draft
    return Object.fromEntries(Object.entries(options).filter(([name, value]) => value && !(name === 'delivery' && value === 'all')))
  }

  /** The same request as a line for a shell. */
  curl() {
    const type = this.draft.content_type ? ` -H ${quoted(`Content-Type: ${this.draft.content_type}`)}` : ''
    const token = this.app.session.anonymous ? '' : ' -H "Authorization: Bearer $PLAINMQ_TOKEN"'
    return `curl${token}${type} --data-raw ${quoted(this.draft.body || 'hello')} ${quoted(address(topicPath(this.topic, 'messages'), this.parameters()).href)}`
  }

  async publish(event) {
    event.preventDefault()
    const headers = { 'Content-Type': this.draft.content_type || 'text/plain; charset=utf-8' }
    const { body } = this.draft
    await this.app.attempt(
      () => ask('POST', topicPath(this.topic, 'messages'), { body, headers, parameters: this.parameters() }),
      receipt => (receipt.due ? `Scheduled.` : `Published as ${receipt.id}, to ${plural(receipt.subscribers, 'subscriber')}.`),
    )
    this.refresh()
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
    await this.app.attempt(() => send('POST', topicPath(this.topic, verb)), `Publishing is ${verb}d.`)
    this.refresh()
  }

  async purge() {
    const count = plural(this.state.messages, 'message')
    const agreed = await this.app.dialogs.confirm({
      title: `Purge ${this.topic}?`, text: `${count} will be removed, also those that groups have not acked. Settings and groups stay.`,
      action: 'Purge', word: this.topic,
    })
    if (agreed) await this.app.attempt(() => ask('POST', topicPath(this.topic, 'purge')), answer => `${plural(answer.purged, 'message')} removed.`)
    this.refresh()
  }

  async remove() {
    const agreed = await this.app.dialogs.confirm({
      title: `Delete ${this.topic}?`, text: `Its ${plural(this.state.messages, 'message')}, ${plural(this.groups.length, 'group')}, scheduled messages and settings will be gone.`,
      action: 'Delete', word: this.topic,
    })
    if (agreed && (await this.app.attempt(() => send('DELETE', topicPath(this.topic)), `${this.topic} is deleted.`))) this.app.go('/topics')
  }

  // Drawing

  view() {
    const { session } = this.app
    const { state } = this
    return html`<h1>${this.topic}${state?.paused ? html` <b class="badge">paused</b>` : nothing}</h1>
      ${problemNote(this.problem)}
      ${state
        ? html`<p>${plural(state.messages, 'message')}, ${bytes(state.bytes)}; ${plural(state.subscribers, 'subscriber')};
            ${state.delayed ? html`<a href="#/scheduled?match=${encodeURIComponent(this.topic)}">${plural(state.delayed, 'message')} scheduled</a>` : 'nothing scheduled'}</p>`
        : html`<p>This topic holds nothing yet. The first message makes it.</p>`}
      ${session.may('publish', this.topic) ? this.publishForm() : nothing}
      ${this.tail ? this.messages() : html`<p class="hint">The messages need the right <code>subscribe</code>.</p>`}
      ${this.groups.length ? table('Groups', GROUPS, this.groups) : nothing}
      ${state && session.may('admin', this.topic) ? this.settings(state) : nothing}`
  }

  publishForm() {
    const change = name => event => {
      this.draft[name] = event.target.value
      this.app.redraw()
    }
    return html`<details class="publish"><summary>Publish</summary>
      <form @submit=${event => this.publish(event)}>
        <label>Body <textarea rows="4" .value=${this.draft.body} @input=${change('body')}></textarea></label>
        <div class="fields">
          <label>Content type <input .value=${this.draft.content_type} placeholder="text/plain" @input=${change('content_type')}></label>
          ${OPTIONS.map(([name, title, example]) => html`<label>${title} <input placeholder=${example} .value=${this.draft[name] ?? ''} @input=${change(name)}></label>`)}
          <label>Delivery <select @change=${change('delivery')}><option value="all">to all</option><option value="one">to one</option></select></label>
        </div>
        <p><button class="primary">Publish</button></p>
      </form>
      <p class="hint">The same in a terminal:</p><pre tabindex="0" aria-label="The same as a curl command">${this.curl()}</pre>
    </details>`
  }

  messages() {
    const { tail } = this
    const wanted = this.filter.toLowerCase()
    const shown = tail.entries.filter(entry => isControl(entry) || !wanted || matches(recordOf(entry), wanted))
    return html`<section aria-labelledby="messages"><h2 id="messages">Messages</h2>
      <div class="bar">
        <button aria-pressed=${tail.paused} @click=${() => tail.pause(!tail.paused)}>${tail.paused ? 'Resume' : 'Pause'}</button>
        <label>Filter <input data-filter type="search" .value=${this.filter} @input=${event => this.choose({ filter: event.target.value })}></label>
        <label>Show as <select @change=${event => this.choose({ form: event.target.value })}>
          ${Object.entries(FORMS).map(([form, title]) => html`<option value=${form} ?selected=${form === this.form}>${title}</option>`)}</select></label>
        <form @submit=${event => (event.preventDefault(), this.choose({ from: event.target.elements.from.value || 'latest' }))}>
          <label>From <input name="from" .value=${this.from} list="starts" size="14"></label><button>Go</button>
          <datalist id="starts"><option value="latest"></option><option value="earliest"></option><option value="last:50"></option><option value="10m"></option></datalist>
        </form>
        <p role="status">${this.progress()}</p>
      </div>
      ${problemNote(tail.state === 'refused' ? tail.problem : null)}
      <div role="log" aria-live="off" aria-label="Messages, the newest first" tabindex="0"><ol class="messages">
        ${repeat(shown.reverse(), entry => entry, entry => (isControl(entry) ? control(entry) : message(recordOf(entry), this.form)))}
      </ol></div>
      ${tail.beginning ? html`<p class="hint">Nothing older is retained.</p>` : html`<button @click=${() => this.app.attempt(() => tail.older())}>Older messages</button>`}
    </section>`
  }

  progress() {
    const { tail } = this
    const parts = [{ connecting: 'Connecting …', open: 'Live', lost: 'Connection lost, trying again …', refused: 'Refused' }[tail.state]]
    parts.push(`${number(tail.arrived)} arrived`)
    if (tail.skipped) parts.push(`${number(tail.skipped)} of them not shown: the newest ${SHOWN} are`)
    if (tail.waiting.length) parts.push(`${number(tail.waiting.length)} wait`)
    return parts.join(' · ')
  }

  settings(state) {
    return html`<details><summary>Settings</summary>
      <form class="fields" @submit=${event => this.configure(event)}>
        <label>Most messages <input name="max_messages" type="number" min="1" required .value=${state.retention.max_messages}></label>
        <label>Most bytes <input name="max_bytes" type="number" min="1" required .value=${state.retention.max_bytes}></label>
        <label>Greatest age <input name="max_age" required .value=${state.retention.max_age}></label>
        <button class="primary">Change</button>
      </form>
      <p class="actions"><button @click=${() => this.pause()}>${state.paused ? 'Resume' : 'Pause'} publishing</button>
        <button class="danger" @click=${() => this.purge()}>Purge …</button>
        <button class="danger" @click=${() => this.remove()}>Delete …</button></p>
    </details>`
  }
}

const matches = (record, wanted) =>
  [record.data, record.event, record.id, record.content_type].some(value => value?.toLowerCase().includes(wanted))

function message(record, form) {
  return html`<li><p class="meta"><code>${record.id}</code> ${time(record.time)}
      ${record.event ? html`<b class="badge">${visible(record.event)}</b>` : nothing}
      <span>${record.content_type}, ${size(record)}</span>
      ${record.dead ? html`<span>dead in ${record.dead.group} after ${plural(record.dead.attempts, 'attempt')}: ${visible(record.dead.reason)}</span>` : nothing}
      ${Object.entries(record.headers ?? {}).map(([name, value]) => html`<span>${name}: ${visible(value)}</span>`)}
      <a href=${address(topicPath(record.topic, 'messages', record.id)).href} target="_blank" rel="noopener">whole</a></p>
    <pre>${bodyText(record, form)}</pre></li>`
}

function control(entry) {
  const data = JSON.parse(entry.data)
  const texts = {
    gap: () => `Gap: ${data.missed === null ? 'messages are' : `${plural(data.missed, 'message')} ${data.missed === 1 ? 'is' : 'are'}`} missing, since ${REASONS[data.reason] ?? data.reason}.`,
    bye: () => `The server ended the stream (${data.reason}); the page comes back by itself.`,
    busy: () => `The server has no place for this stream now (${data.reason}); the page comes back by itself.`,
  }
  return html`<li class="control">${texts[entry.type]()}</li>`
}
