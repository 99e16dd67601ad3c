/** A screen: what it shows is loaded when it begins, and again and again while it is looked at. */

import { html } from '../vendor/lit-html.js'
import { get } from '../api.js'
import { exact } from '../format.js'

const TYPING = 200 // milliseconds after the last key, until what was typed is asked for

export class Screen {
  title = ''
  problem = null
  loaded = false
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
    this.loading?.abort()
  }

  /** Load what is shown, and draw it. A load that is under way is given up. */
  async refresh() {
    this.loading?.abort()
    const loading = (this.loading = new AbortController())
    try {
      await this.load(loading.signal)
      if (loading.signal.aborted) return
      this.problem = null
      this.loaded = true
    } catch (problem) {
      if (loading.signal.aborted) return
      this.fail(problem)
    }
    if (!this.stopped) this.app.redraw()
  }

  /** A token that is no longer valid is asked for anew. */
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
  pageSize = 100

  stop() {
    super.stop()
    clearTimeout(this.typing)
  }

  turn(after) {
    this.after = after
    return this.refresh()
  }

  /** Ask for what is typed now. */
  search(changes) {
    this.choose(changes)
    clearTimeout(this.typing)
    this.typing = setTimeout(() => this.turn([]), TYPING)
  }

  pager() {
    if (!this.after.length && !this.next) return ''
    return html`<nav class="actions pager" aria-label="Pages">
      <button ?disabled=${!this.after.length} @click=${() => this.turn(this.after.slice(0, -1))}>Previous</button>
      <button ?disabled=${!this.next} @click=${() => this.turn([...this.after, this.next])}>Next</button></nav>`
  }

  /** Which rows are shown, of how many. */
  shown(rows, total, noun) {
    const first = this.after.length * this.pageSize + 1
    if (!rows) return total ? `None of ${exact(total)} ${noun}s here` : `No ${noun}s`
    const span = rows === total ? '' : `${exact(first)} to ${exact(first + rows - 1)} of `
    return `${span}${exact(total)} ${noun}${total === 1 ? '' : 's'}`
  }
}

/** A list of the server that it filters, sorts and counts, of the topics that the session may see. */
export class ListScreen extends PagedScreen {
  interval = 10_000 // to sort 10,000 topics takes the server some milliseconds
  name = '' // of the list: its path, and its items in the answer
  sorts = [] // the first is usual
  filter = ''

  constructor(app, query) {
    super(app)
    this.filter = query.get('filter') ?? ''
    this.given = query.get('sort')
    this.rows = []
    this.total = 0
  }

  get sort() {
    return this.sorts.includes(this.given) ? this.given : this.sorts[0]
  }

  async load(signal) {
    const { match } = this.app.session
    const parameters = { match, search: this.filter, sort: this.sort, after: this.after.at(-1), limit: this.pageSize }
    const answer = await get(this.name, parameters, signal)
    Object.assign(this, { rows: answer[this.name], next: answer.next, total: answer.total })
  }

  inAddress() {
    return { filter: this.filter, sort: this.sort === this.sorts[0] ? '' : this.sort }
  }

  order(sort) {
    this.choose({ given: sort })
    this.turn([])
  }

  bar(noun, placeholder = '') {
    const text = this.loaded ? this.shown(this.rows.length, this.total, noun) : 'Loading …'
    return html`<div class="bar" role="search"><label>Filter <input data-filter type="search" placeholder=${placeholder} .value=${this.filter}
        @input=${event => this.search({ filter: event.target.value })}></label>
      <p role="status">${text}${this.filter && this.loaded ? ' with this text' : ''}</p></div>`
  }
}
