/** Dialogs that ask before something is done, and notices of what came of it. They are shown above the screen. */

import { html, nothing } from './vendor/lit-html.js'
import { advice } from './advice.js'

const NOTICE_TIME = 6_000 // milliseconds: of what was done; an error stays until it is dismissed
const MOST_NOTICES = 5

export class Dialogs {
  constructor(redraw) {
    this.redraw = redraw
    this.question = null
    this.notices = []
  }

  /** Ask; the values of the fields if the person agrees, else null. `text`: what will happen. `word`: has to be typed,
   * for what cannot be undone. `fields()`: more inputs. Without an `action` there is nothing to agree to. */
  ask(question) {
    return new Promise(resolve => {
      this.question = { word: null, fields: () => nothing, ...question, resolve }
      this.redraw()
      requestAnimationFrame(() => document.querySelector('dialog')?.showModal())
    })
  }

  notify(text, kind = 'done') {
    this.add({ text, kind, hint: '', times: 1 })
  }

  /** An error, with what can be done about it. */
  fail(problem) {
    this.add({ text: problem.message, kind: 'problem', hint: advice(problem), times: 1 })
  }

  add(notice) {
    const same = this.notices.find(other => other.text === notice.text && other.kind === notice.kind)
    if (same) same.times += 1
    else this.notices = [...this.notices, notice].slice(-MOST_NOTICES)
    this.redraw()
    if (notice.kind !== 'problem') setTimeout(() => this.dismiss(same ?? notice), NOTICE_TIME)
  }

  dismiss(notice) {
    this.notices = this.notices.filter(other => other !== notice)
    this.redraw()
  }

  answer(values) {
    const { resolve } = this.question
    document.querySelector('dialog')?.close() // gives the focus back
    this.question = null
    this.redraw()
    resolve(values)
  }

  /** Two regions that are always there: screen readers notice what changes in them. */
  view() {
    const of = wanted => this.notices.filter(notice => (notice.kind === 'problem') === wanted)
    return html`${this.question ? this.dialog(this.question) : nothing}
      <div class="notices">
        <div role="alert">${of(true).map(notice => this.notice(notice))}</div>
        <div role="status">${of(false).map(notice => this.notice(notice))}</div>
      </div>`
  }

  notice(notice) {
    return html`<div class="notice ${notice.kind}"><p>${notice.kind === 'problem' ? html`<b>It was not done.</b> ` : nothing}${notice.text}
        ${notice.times > 1 ? html`<b class="badge">${notice.times}×</b>` : nothing}</p>
      ${notice.hint ? html`<p class="hint">${notice.hint}</p>` : nothing}
      <button class="plain close" aria-label="Dismiss" @click=${() => this.dismiss(notice)}>×</button></div>`
  }

  dialog({ title, text, action, word, fields, danger = word !== null }) {
    const submit = event => {
      event.preventDefault()
      this.answer(Object.fromEntries(new FormData(event.target)))
    }
    return html`<dialog aria-labelledby="question" aria-describedby="consequence" @cancel=${event => (event.preventDefault(), this.answer(null))}>
      <form @submit=${submit}>
        <h2 id="question">${title}</h2>
        <div id="consequence">${text}</div>
        ${fields()}
        ${word === null ? nothing : html`<label>Type <b>${word}</b> to confirm
          <input name="word" autocomplete="off" spellcheck="false" required
            @input=${event => event.target.setCustomValidity(event.target.value === word ? '' : `Type ${word}`)}></label>`}
        <p class="actions end"><button type="button" @click=${() => this.answer(null)}>${action ? 'Cancel' : 'Close'}</button>
          ${action ? html`<button class=${danger ? 'danger' : 'primary'}>${action}</button>` : nothing}</p>
      </form>
    </dialog>`
  }
}
