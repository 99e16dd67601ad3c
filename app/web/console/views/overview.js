/** What the server does now, and what needs attention first. */

import { html, nothing } from '../vendor/lit-html.js'
import { get } from '../api.js'
import { sparkline } from '../chart.js'
import { bytes, duration, exact, number, plural } from '../format.js'
import { groupLink, problemNote, table, time, topicLink } from '../ui.js'
import { Screen } from './screen.js'
import { Tour } from './tour.js'

const RATES = [
  ['published', 'Published', 'Messages accepted a second'],
  ['delivered', 'Delivered', 'Messages written to subscribers, or handed to consumers, a second'],
  ['acked', 'Acked', 'Messages acked a second'],
  ['refused', 'Refused', 'Requests and lines refused a second'],
]
const FULL = 0.8 // part of the memory from which the meter warns
const MOST_GROUPS = 5 // of those with dead messages
/** Where one can act, by the kind of what needs attention. */
const PLACES = {
  unready: () => '#/server', no_answer: () => '#/server', draining: () => '#/server', engine_failures: () => '#/server', journal_lost: () => '#/server',
  memory: () => '#/topics?sort=-bytes', evicted: () => '#/subscribers', loop_delay: () => '#/topics?sort=-rate',
  dead: matter => `${groupAddress(matter)}?state=dead`, dead_waiting: matter => `${groupAddress(matter)}?state=dead`,
  paused: matter => `${groupAddress(matter)}?state=ready`, no_workers: matter => `${groupAddress(matter)}?state=ready`,
}
const groupAddress = ({ topic, group }) => `#/group/${encodeURIComponent(topic)}/${encodeURIComponent(group)}`
const MEANINGS = {
  publish: 'publish messages to', subscribe: 'read the messages of', consume: 'take messages in groups of',
  view: 'see the state and figures of', admin: 'change and delete',
}
const DEAD = [
  { title: 'Topic', cell: row => topicLink(row.topic) },
  { title: 'Group', cell: row => groupLink(row.topic, row.group, 'dead') },
  { title: 'Dead', number: true, cell: row => number(row.dead) },
  { title: 'Lag', number: true, cell: row => number(row.lag) },
]

export class Overview extends Screen {
  title = 'Overview'

  constructor(app) {
    super(app)
    this.groups = []
    this.tour = new Tour(app)
  }

  stop() {
    super.stop()
    this.tour.stop()
  }

  async load(signal) {
    const { session, stats } = this.app
    if (!stats && session.listsAnything) {
      const { groups } = await get('groups', { match: session.match, sort: '-dead', limit: MOST_GROUPS }, signal)
      this.groups = groups.filter(group => group.dead)
    }
  }

  view() {
    const { stats } = this.app
    if (!stats) return this.narrow()
    const { now, server } = stats
    if (stats.state === 'refused') return html`<h1>Overview</h1>${problemNote(stats.problem, () => location.reload())}`
    if (!now) return html`<h1>Overview</h1>${this.attention()}<p aria-busy="true">Waiting for the first figures …</p>`
    this.touring ||= now.topics === 0 && Tour.fits(this.app.session)
    return html`<h1>Overview</h1>
      ${this.touring ? this.tour.view() : nothing}
      ${this.attention()}
      <section aria-labelledby="figures"><h2 id="figures">Now</h2><div class="tiles">
        ${RATES.map(([name, title, help]) => this.rate(name, title, help))}
        ${this.tile('Subscribers', number(now.subscribers), this.line('Subscribers', sample => sample.subscribers),
          html`<p>${plural(now.consumers, 'consumer')} among them, ${plural(now.connections, 'connection')}</p>`)}
        ${this.tile('Lag of all groups', number(now.ready + now.leased + now.delayed), this.line('Lag', sample => sample.ready + sample.leased + sample.delayed),
          html`<p>${number(now.ready)} ready, ${number(now.leased)} leased, ${number(now.delayed)} delayed, ${number(now.dead)} dead</p>`)}
        ${this.tile('Memory', html`${bytes(now.memory)} <small>of ${bytes(now.memory_limit)}</small>`,
          html`<meter aria-label="Memory" min="0" max=${now.memory_limit} high=${FULL * now.memory_limit} value=${now.memory}></meter>`,
          html`<p>${plural(now.messages, 'message')} in ${plural(now.topics, 'topic')}</p>`)}
        ${this.tile('Loop delay', duration(now.loop_delay), this.line('Loop delay', sample => sample.loop_delay, duration),
          html`<p>${now.commit_time === null ? 'how late the server answers' : html`a commit takes ${duration(now.commit_time)}`}</p>`)}
      </div></section>
      ${server ? html`<p class="hint">plainmq ${server.version}, ${server.durability === 'disk' ? 'stored on disk' : 'in memory'}, epoch ${server.epoch}, started ${time(server.started)}</p>` : nothing}`
  }

  tile(title, figure, chart, rest = nothing, help = nothing) {
    return html`<div class="tile" title=${help}><h3>${title}</h3><p class="figure">${figure}</p>${chart}${rest}</div>`
  }

  rate(name, title, help) {
    return this.tile(title, html`${number(this.app.stats.now[name])}<small>/s</small>`, this.line(title, sample => sample[name]), nothing, help)
  }

  line(title, value, show = number) {
    return sparkline(title, this.app.stats.samples.map(value), show)
  }

  attention() {
    const { stats } = this.app
    const found = stats.attention ?? []
    const more = (stats.attentionTotal ?? 0) - found.length
    return html`<section aria-labelledby="attention"><h2 id="attention">Needs attention</h2>
      ${found.length
        ? html`<ul class="attention">${found.map(matter => html`<li class=${matter.kind}><a href=${PLACES[matter.kind]?.(matter) ?? '#/groups'}>${sentence(matter.text)}</a></li>`)}
            ${more > 0 ? html`<li><a href="#/groups?sort=-dead">And ${exact(more)} more: see all groups</a></li>` : nothing}</ul>`
        : html`<p class="fine">${stats.attention ? 'Nothing: all is well.' : 'Loading …'}</p>`}
      ${problemNote(this.problem, () => this.refresh())}
    </section>`
  }

  /** For a token without a view of the whole server. */
  narrow() {
    const { session } = this.app
    const rights = Object.entries(session.rights).filter(([, patterns]) => patterns.length)
    return html`<h1>Overview</h1>
      <section aria-labelledby="rights"><h2 id="rights">What you may do here</h2>
        ${rights.length
          ? html`<dl class="facts">${rights.map(([right, patterns]) => html`<div><dt>${MEANINGS[right]}</dt><dd>${patterns.map(pattern => this.place(pattern))}</dd></div>`)}</dl>`
          : html`<p>Nothing: your token has no right on any topic.</p>`}
        <p class="hint">The figures of the whole server need a token with the right <code>view</code> on <code>**</code>.</p>
      </section>
      <section aria-labelledby="open"><h2 id="open">Go to a topic</h2>
        <form class="bar" @submit=${event => (event.preventDefault(), this.app.go(`/topic/${encodeURIComponent(event.target.elements.topic.value.trim())}`))}>
          <label>Topic <input name="topic" required placeholder="its name"></label><button>Open</button></form></section>
      ${this.groups.length ? html`<section aria-labelledby="dead"><h2 id="dead">Groups with dead messages</h2>${table('Groups with dead messages', DEAD, this.groups)}</section>` : nothing}
      ${problemNote(this.problem, () => this.refresh())}`
  }

  place(pattern) {
    return pattern.includes('*') ? html`<code>${pattern}</code> ` : html`${topicLink(pattern)} `
  }
}

const sentence = text => `${text[0].toUpperCase()}${text.slice(1)}.`
