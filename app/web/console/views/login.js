/** Where a token is asked for. */

import { html, nothing } from '../vendor/lit-html.js'
import { logIn } from '../session.js'
import { problemNote } from '../ui.js'

export class LogIn {
  title = 'Log in'

  constructor(app, problem = null, reason = '') {
    this.app = app
    this.problem = problem
    this.reason = reason
  }

  async submit(event) {
    event.preventDefault()
    const field = event.target.elements.token
    try {
      await logIn(field.value.trim())
      field.value = ''
      await this.app.start()
    } catch (problem) {
      this.problem = problem
      this.app.redraw()
    }
  }

  view() {
    return html`<section class="login">
      <h1>plainmq</h1>
      ${this.reason ? html`<p role="alert">${this.reason}</p>` : nothing}
      ${problemNote(this.problem, this.problem?.status === 0 ? () => this.app.start() : undefined)}
      <form @submit=${event => this.submit(event)}>
        <label>Token <input type="password" name="token" autocomplete="current-password" required autofocus></label>
        <button class="primary">Log in</button>
      </form>
      <p class="hint">The server printed its first token when it started. <code>plainmq token NAME --admin '**'</code>
        makes another; one with <code>--view '**'</code> sees everything here and changes nothing.</p>
    </section>`
  }
}
