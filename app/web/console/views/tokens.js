/** Tokens by name and rights: make one, and revoke one. */

import { html, nothing } from '../vendor/lit-html.js'
import { ask, get, send } from '../api.js'
import { command, emptyState, problemNote, table, time } from '../ui.js'
import { visible } from '../text.js'
import { PagedScreen } from './screen.js'

const RIGHTS = {
  publish: 'publish messages', subscribe: 'read messages', consume: 'take messages of groups', view: 'see names, state and figures',
  admin: 'list, change and delete',
}

export class Tokens extends PagedScreen {
  title = 'Tokens'
  interval = 0

  constructor(app) {
    super(app)
    this.tokens = null
    this.made = null
  }

  async load(signal) {
    if (this.made && this.app.session.anonymous) return // where a token is needed from now on, an answer of 401 would take the new one off the screen
    const page = await get('tokens', { after: this.after.at(-1), limit: this.pageSize }, signal)
    Object.assign(this, { tokens: page.tokens, next: page.next })
  }

  async create(event) {
    event.preventDefault()
    const form = event.target
    const fields = new FormData(form)
    const json = { name: fields.get('name') }
    for (const right of Object.keys(RIGHTS)) {
      const patterns = fields.get(right).split(/[\s,]+/).filter(Boolean)
      if (patterns.length) json[right] = patterns
    }
    if (fields.get('expires')) json.expires = fields.get('expires')
    const made = await this.app.attempt(async () => (this.made = await ask('POST', 'tokens', { json })), 'The token is made.')
    if (made) form.reset()
    this.refresh()
  }

  async revoke(token) {
    const what = token.own ? 'It is your own: you will be logged out.' : 'Its streams end at once, and its requests are refused.'
    const agreed = await this.app.dialogs.ask({ title: `Revoke ${visible(token.name)}?`, text: html`<p>${what}</p>`, action: 'Revoke', word: token.name })
    if (!agreed) return
    const parameters = token.own ? { own: 'true' } : {}
    await this.app.attempt(() => send('DELETE', `tokens/${encodeURIComponent(token.name)}`, { parameters }), `${token.name} is revoked.`)
    this.refresh()
  }

  copied() {
    this.made = null
    this.refresh()
  }

  view() {
    const columns = [
      { title: 'Name', cell: token => html`${visible(token.name)}${token.own ? ' (yours)' : ''}${token.stored ? '' : ' (until the server ends)'}` },
      ...Object.keys(RIGHTS).map(right => ({ title: right, cell: token => (token[right] ?? []).join(', ') || '–' })),
      { title: 'Expires', cell: token => (token.expires ? time(token.expires) : 'never') },
      { title: '', label: 'Actions', cell: token => html`<button class="danger" aria-label="Revoke ${visible(token.name)}" @click=${() => this.revoke(token)}>Revoke …</button>` },
    ]
    return html`<h1>Tokens</h1>
      ${problemNote(this.problem, () => this.refresh())}
      ${this.made ? html`<section class="made" role="alert"><p>This is the token of <b>${visible(this.made.name)}</b>. It is shown only now:</p>
        ${command(this.made.token, 'The new token', this.app)}<button @click=${() => this.copied()}>I have copied it</button></section>` : nothing}
      ${this.tokens ? table('Tokens', columns, this.tokens, { empty: emptyState('There is no token yet.', 'Make the first one below, with admin on **: from then on each request needs a token.') }) : nothing}
      ${this.pager()}
      ${this.form()}`
  }

  form() {
    return html`<details class="sheet"><summary>Make a token</summary>
      <form class="fields" @submit=${event => this.create(event)}>
        <label>Name <input name="name" required maxlength="128" placeholder="who or what uses it"></label>
        ${Object.entries(RIGHTS).map(([right, meaning]) => html`<label>${right}: ${meaning} <input name=${right} placeholder="patterns, such as orders.** or **"></label>`)}
        <label>Expires in <input name="expires" placeholder="never, or such as 30d"></label>
        <button class="primary">Make</button>
      </form></details>`
  }
}
