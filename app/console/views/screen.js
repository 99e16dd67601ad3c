/** A screen: what it shows is loaded when it begins, and again and again while it is looked at. */

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
