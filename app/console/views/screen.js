/** A screen: what it shows is loaded when it begins, and again and again while it is looked at. */

import { html } from '../vendor/lit-html.js'

export class Screen {
  title = ''
  problem = null
  interval = 5_000 // milliseconds between two loads; 0: only when asked

  constructor(app) {
    this.app = app
  }

  start() {
    this.refresh()
    if (this.interval) this.timer = setInterval(() => document.hidden || this.refresh(), this.interval)
  }

  stop() {
    this.stopped = true
    clearInterval(this.timer)
  }

  /** Load what is shown, and draw it. A token that is no longer valid is asked for anew. */
  async refresh() {
    try {
      await this.load()
      this.problem = null
    } catch (problem) {
      this.fail(problem)
    }
    if (!this.stopped) this.app.redraw()
  }

  fail(problem) {
    if (problem.status === 401) this.app.expired()
    else this.problem = problem
  }

  /** Change choices of the screen, and keep those that `inAddress()` gives in the address. */
  choose(changes) {
    Object.assign(this, changes)
    this.app.remember(this.inAddress())
    this.app.redraw()
  }

  inAddress() {
    return {}
  }

  async load() {}
}

/** A screen that shows one page of a list at a time. `load()` asks for what comes after `this.after.at(-1)`. */
export class PagedScreen extends Screen {
  after = [] // where the pages up to this one began
  next = null // where the following one begins

  turn(after) {
    this.after = after
    this.refresh()
  }

  pager() {
    return html`<p class="actions">
      <button ?disabled=${!this.after.length} @click=${() => this.turn(this.after.slice(0, -1))}>Previous</button>
      <button ?disabled=${!this.next} @click=${() => this.turn([...this.after, this.next])}>Next</button></p>`
  }
}
