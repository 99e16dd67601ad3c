/** The console begins here: who uses it, which screen the address names, and the frame around it. */

import { html, nothing, render } from './vendor/lit-html.js'
import { Dialogs } from './dialogs.js'
import { PublishForm } from './publishing.js'
import { loadSession, logOut } from './session.js'
import { Stats } from './stats.js'
import { visible } from './text.js'
import { Group } from './views/group.js'
import { Groups } from './views/groups.js'
import { LogIn } from './views/login.js'
import { Overview } from './views/overview.js'
import { Scheduled } from './views/scheduled.js'
import { Server } from './views/server.js'
import { Subscribers } from './views/subscribers.js'
import { Tokens } from './views/tokens.js'
import { Topic } from './views/topic.js'
import { Topics } from './views/topics.js'

const SCREENS = {
  '': Overview, topics: Topics, topic: Topic, groups: Groups, group: Group, scheduled: Scheduled,
  subscribers: Subscribers, tokens: Tokens, server: Server,
}
const ALWAYS = () => true
const LISTS = session => session.listsAnything
const SEES_ALL = session => session.may('view admin')
const ADMINISTERS = session => session.may('admin')
/** What is in the menu: the screen, its title, the key that goes there after g, and whom the server lets see it. */
const MENU = [
  ['', 'Overview', 'o', ALWAYS], ['topics', 'Topics', 't', LISTS], ['groups', 'Groups', 'g', LISTS],
  ['scheduled', 'Scheduled', 's', LISTS], ['subscribers', 'Subscribers', 'u', LISTS],
  ['tokens', 'Tokens', 'k', ADMINISTERS], ['server', 'Server', 'v', SEES_ALL],
]
const NAMES = { topic: 1, group: 2 } // that the address of a screen must have
const BELONGS_TO = { topic: 'topics', group: 'groups' }
const STATES = {
  connecting: 'connecting …', open: 'live', resting: 'resting in the background', lost: 'connection lost, trying again …', refused: 'not allowed',
}

/** In place of a screen whose requests the server would refuse. */
class NotAllowed {
  title = 'Not allowed'

  view() {
    return html`<h1>Not allowed</h1><p>Your token has no right to see this. <a href="#/">The Overview</a> says what it may do.</p>`
  }
}

class Console {
  constructor() {
    this.session = null
    this.stats = null
    this.screen = null
    this.dialogs = new Dialogs(() => this.redraw())
    this.draft = null
    this.due = false
    addEventListener('hashchange', () => this.navigate())
    addEventListener('keydown', event => this.shortcut(event))
  }

  async start() {
    try {
      this.session = await loadSession()
    } catch (problem) {
      this.show(new LogIn(this, problem))
      return
    }
    if (this.session === null) {
      this.show(new LogIn(this))
      return
    }
    this.stats = this.session.may('view admin') ? new Stats(() => this.statsChanged()) : null
    this.navigate()
  }

  /** The token is no longer valid: ask for another, and come back to this screen. */
  expired() {
    if (this.session === null) return
    this.stats?.close()
    this.stats = null
    this.session = null
    this.dialogs.question = null
    this.show(new LogIn(this, null, 'Your token is no longer valid. Log in again to go on here.'))
  }

  /** What was typed to be published to the topic: a screen that is left for a log-in finds it again. */
  draftFor(topic) {
    if (this.draft?.topic !== topic) this.draft = new PublishForm(topic)
    return this.draft
  }

  async leave() {
    await logOut()
    location.reload()
  }

  statsChanged() {
    if (this.stats?.problem?.status === 401) this.expired()
    this.redraw()
  }

  /** Do something that the server may refuse, and say what came of it. True if it was done. */
  async attempt(action, done = '') {
    try {
      const result = await action()
      const text = typeof done === 'function' ? done(result) : done
      if (text) this.dialogs.notify(text)
      return true
    } catch (problem) {
      if (problem.status === 401) this.expired()
      else this.dialogs.fail(problem)
      return false
    }
  }

  // The address: #/topic/orders?from=earliest

  navigate() {
    if (this.session === null) return
    if (this.dialogs.question) this.dialogs.answer(null)
    const [path, query = ''] = location.hash.replace(/^#\/?/, '').split('?')
    const [name, ...names] = path.split('/').map(decoded)
    this.name = name
    const known = Object.hasOwn(SCREENS, name) && this.menu().concat([['topic'], ['group']]).some(([other]) => other === name)
    const isWhole = names.filter(Boolean).length >= (NAMES[name] ?? 0)
    if (!isWhole) this.show(new Overview(this))
    else if (known) this.show(new SCREENS[name](this, names, new URLSearchParams(query)))
    else this.show(Object.hasOwn(SCREENS, name) ? new NotAllowed() : new Overview(this))
    document.querySelector('main')?.focus()
    scrollTo(0, 0)
  }

  /** Keep a choice of the screen in the address, so that it can be shared. */
  remember(query) {
    const [path] = location.hash.split('?')
    const text = new URLSearchParams(Object.entries(query).filter(([, value]) => value)).toString()
    history.replaceState(null, '', `${path || '#/'}${text && `?${text}`}`)
  }

  go(path) {
    location.hash = path
  }

  show(screen) {
    this.screen?.stop?.()
    this.screen = screen
    screen.start?.()
    this.redraw()
  }

  /** The entries of the menu that the session may see. */
  menu() {
    return MENU.filter(([, , , may]) => may(this.session))
  }

  shortcut(event) {
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)
    if (event.ctrlKey || event.metaKey || event.altKey || typing || !this.session || this.dialogs.question) return
    const [screen] = this.menu().find(([, , key]) => key === event.key) ?? []
    if (event.key === '/') {
      const filter = document.querySelector('[data-filter]')
      if (filter) (filter.focus(), event.preventDefault())
    } else if (event.key === '?') {
      this.help()
    } else if (this.lastKey === 'g' && screen !== undefined) {
      this.go(`/${screen}`)
    }
    this.lastKey = event.key === this.lastKey ? '' : event.key
  }

  help() {
    const keys = [['/', 'go to the filter'], ...this.menu().map(([, title, key]) => [`g ${key}`, `go to ${title}`]), ['?', 'show this']]
    this.dialogs.ask({ title: 'Keys', text: html`<dl class="keys">${keys.map(([key, meaning]) => html`<div><dt>${key.split(' ').map(one => html`<kbd>${one}</kbd> `)}</dt><dd>${meaning}</dd></div>`)}</dl>` })
  }

  // Drawing

  /** Draw once in the next frame, however often it is asked for. */
  redraw() {
    if (this.due) return
    this.due = true
    requestAnimationFrame(() => {
      this.due = false
      document.title = `${this.screen?.title ?? ''} · plainmq`.replace(/^ · /, '')
      render(this.view(), document.body)
    })
  }

  view() {
    if (!this.session) return html`<main tabindex="-1">${this.screen?.view()}</main>${this.dialogs.view()}`
    const current = BELONGS_TO[this.name] ?? this.name
    return html`<a class="skip" href="#main" @click=${skip}>Skip to the content</a>
      <header>
        <a class="brand" href="#/"><img src="console/icon.svg" alt="" width="22" height="22">plainmq</a>
        <nav aria-label="Screens">${this.menu().map(([name, title]) => html`<a href="#/${name}"
          aria-current=${name === current ? 'page' : nothing}>${title}</a>`)}<a href="docs">API</a></nav>
        ${this.stats ? html`<p class="state ${this.stats.state}" role="status">${STATES[this.stats.state]}</p>` : nothing}
        ${this.session.anonymous ? nothing : html`<p class="who">${visible(this.session.name)}
          <button class="plain" @click=${() => this.leave()}>Log out</button></p>`}
        <button class="plain" aria-label="Keys" title="Keys (?)" @click=${() => this.help()}>?</button>
      </header>
      <main id="main" tabindex="-1">${this.screen?.view()}</main>
      ${this.dialogs.view()}`
  }
}

/** A part of the address as it was meant; as it is, if it cannot be read. */
function decoded(part) {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}

function skip(event) {
  event.preventDefault()
  document.querySelector('main').focus()
}

new Console().start()
