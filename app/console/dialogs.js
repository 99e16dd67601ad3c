/** Dialogs that ask before something is done, and notices of what was done. They are shown above the screen. */

import { html, nothing } from './vendor/lit-html.js'

const NOTICE_TIME = 6_000 // milliseconds

export class Dialogs {
  constructor(redraw) {
    this.redraw = redraw
    this.question = null
    this.notices = []
  }

  /** Ask; true if the person agrees. `text`: what will happen. `word`: has to be typed, for what cannot be undone. */
  confirm({ title, text, action, word = null }) {
    return new Promise(resolve => {
      this.question = { title, text, action, word, resolve }
      this.redraw()
      requestAnimationFrame(() => document.querySelector('dialog')?.showModal())
    })
  }

  notify(text, kind = 'done') {
    const notice = { text, kind }
    this.notices.push(notice)
    this.redraw()
    setTimeout(() => this.dismiss(notice), NOTICE_TIME)
  }

  dismiss(notice) {
    this.notices = this.notices.filter(other => other !== notice)
    this.redraw()
  }

  answer(agreed) {
    const { resolve } = this.question
    document.querySelector('dialog')?.close()
    this.question = null
    this.redraw()
    resolve(agreed)
  }

  view() {
    return html`${this.question ? this.dialog(this.question) : nothing}
      <div class="notices" role="status" aria-live="polite">
        ${this.notices.map(notice => html`<p class=${notice.kind}>${notice.text}
          <button class="plain" aria-label="Dismiss" @click=${() => this.dismiss(notice)}>×</button></p>`)}
      </div>`
  }

  dialog({ title, text, action, word }) {
    const submit = event => {
      event.preventDefault()
      this.answer(true)
    }
    return html`<dialog aria-labelledby="question" @cancel=${event => (event.preventDefault(), this.answer(false))}>
      <form @submit=${submit}>
        <h2 id="question">${title}</h2>
        <p>${text}</p>
        ${word === null ? nothing : html`<label>Type <b>${word}</b> to confirm
          <input name="word" autocomplete="off" required
            @input=${event => event.target.setCustomValidity(event.target.value === word ? '' : `Type ${word}`)}></label>`}
        <p class="actions"><button type="button" @click=${() => this.answer(false)}>Cancel</button>
          <button class=${word === null ? 'primary' : 'danger'}>${action}</button></p>
      </form>
    </dialog>`
  }
}
