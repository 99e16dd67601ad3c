/** What the server does now, and what needs attention first. */

import { html, nothing } from '../vendor/lit-html.js'
import { get } from '../api.js'
import { sparkline } from '../chart.js'
import { bytes, duration, number, plural } from '../format.js'
import { groupLink, problemNote, time } from '../ui.js'
import { Screen } from './screen.js'
import { Tour } from './tour.js'

const RATES = [
  ['published', 'Published', 'Messages accepted a second'],
  ['delivered', 'Delivered', 'Messages written to subscribers or handed to consumers a second'],
  ['acked', 'Acked', 'Messages acked a second'],
  ['refused', 'Refused', 'Requests and lines refused a second'],
]
const FULL = 0.8 // part of the memory that is worth a warning
const LATE = 0.1 // seconds of loop delay that are

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

  async load() {
    if (this.app.stats) this.groups = (await get('groups', { sort: '-dead', limit: 100 })).groups
  }

  /** Sentences, the most urgent first, each with a link to where one can act. */
  attention(now, server) {
    const found = []
    const before = this.app.stats.samples.at(-60) ?? now
    if (server?.unready) found.push(html`<a href="#/server">No messages are accepted:</a> ${server.unready}`)
    if (server?.draining) found.push(html`The server is stopping.`)
    if (now.engine_failures > before.engine_failures) found.push(html`<a href="#/server">Storing has failed</a> in the last minutes.`)
    if (now.memory > FULL * now.memory_limit) {
      found.push(html`<a href="#/topics?sort=-bytes">The log is ${number((100 * now.memory) / now.memory_limit)} % full.</a>`)
    }
    if (now.loop_delay > LATE) found.push(html`The event loop was ${duration(now.loop_delay)} late.`)
    if (now.evicted > before.evicted) {
      found.push(html`<a href="#/subscribers">${plural(now.evicted - before.evicted, 'subscriber')} did not read</a> and were cut off.`)
    }
    for (const group of this.groups) {
      if (group.dead > 0) {
        found.push(html`<a href="#/group/${encodeURIComponent(group.topic)}/${encodeURIComponent(group.group)}?state=dead">${plural(group.dead, 'dead message')}</a>
          in ${group.group} of ${group.topic}: look at the reason, and redrive.`)
      }
      if (group.ready > 0 && group.workers === 0 && !group.paused) {
        found.push(html`${groupLink(group.topic, group.group)} of ${group.topic} has ${plural(group.ready, 'message')} ready and nobody who works.`)
      }
    }
    return found.slice(0, 20)
  }

  view() {
    const { stats } = this.app
    if (!stats) return html`<h1>Overview</h1><p>The figures need the right <code>view</code> on <code>**</code>.</p>`
    const { now, server, samples } = stats
    if (stats.state === 'refused') return html`<h1>Overview</h1>${problemNote(stats.problem)}`
    if (!now) return html`<h1>Overview</h1><p aria-busy="true">Waiting for the first figures …</p>`
    const found = this.attention(now, server)
    return html`<h1>Overview</h1>
      ${(this.touring ||= now.topics === 0) ? this.tour.view() : nothing}
      <section aria-labelledby="attention"><h2 id="attention">Needs attention</h2>
        ${found.length ? html`<ul class="attention">${found.map(item => html`<li>${item}</li>`)}</ul>` : html`<p class="fine">Nothing.</p>`}
        ${problemNote(this.problem)}
      </section>
      <section class="tiles" aria-label="Figures">
        ${RATES.map(([name, title, help]) => html`<div class="tile" title=${help}><h3>${title}</h3>
          <p class="figure">${number(now[name])}<small>/s</small></p>${sparkline(title, samples.map(sample => sample[name]))}</div>`)}
        <div class="tile"><h3>Subscribers</h3><p class="figure">${number(now.subscribers)}</p>
          ${sparkline('Subscribers', samples.map(sample => sample.subscribers))}<p>${plural(now.consumers, 'consumer')} among them, ${plural(now.connections, 'connection')}</p></div>
        <div class="tile"><h3>Lag of all groups</h3><p class="figure">${number(now.ready + now.leased + now.delayed)}</p>
          ${sparkline('Lag', samples.map(sample => sample.ready + sample.leased + sample.delayed))}
          <p>${number(now.ready)} ready, ${number(now.leased)} leased, ${number(now.delayed)} delayed, ${number(now.dead)} dead</p></div>
        <div class="tile"><h3>Memory</h3><p class="figure">${bytes(now.memory)}</p>
          <meter aria-label="Memory" min="0" max=${now.memory_limit} high=${FULL * now.memory_limit} value=${now.memory}></meter>
          <p>of ${bytes(now.memory_limit)}; ${plural(now.messages, 'message')} in ${plural(now.topics, 'topic')}</p></div>
        <div class="tile"><h3>Loop delay</h3><p class="figure">${duration(now.loop_delay)}</p>
          ${sparkline('Loop delay', samples.map(sample => sample.loop_delay), duration)}
          <p>${now.commit_time === null ? nothing : html`a commit takes ${duration(now.commit_time)}`}</p></div>
      </section>
      ${server ? html`<p class="hint">plainmq ${server.version}, ${server.durability}, epoch ${server.epoch}, started ${time(server.started)}</p>` : nothing}`
  }
}
