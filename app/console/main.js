/** The console begins here: who uses it, which screen the address names, and the frame around it. */

import { html, nothing, render } from './vendor/lit-html.js'
import { Dialogs } from './dialogs.js'
import { loadSession, logOut } from './session.js'
import { Stats } from './stats.js'
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
const MENU = [
  ['', 'Overview'], ['topics', 'Topics'], ['groups', 'Groups'], ['scheduled', 'Scheduled'],
  ['subscribers', 'Subscribers'], ['tokens', 'Tokens'], ['server', 'Server'],
]
const KEYS = { o: '', t: 'topics', g: 'groups', s: 'scheduled' } // after g
const BELONGS_TO = { topic: 'topics', group: 'groups' }
const STATES = {
  connecting: 'connecting …', open: 'live', lost: 'connection lost, trying again …', refused: 'not allowed',
}

class Console {
  constructor() {
    this.session = null
    this.stats = null
    this.screen = null
    this.dialogs = new Dialogs(() => this.redraw())
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
    this.stats = this.session.may('view') || this.session.may('admin') ? new Stats(() => this.statsChanged()) : null
    this.navigate()
  }

  /** The token is no longer valid: ask for another, and come back to this screen. */
  expired() {
    this.stats?.close()
    this.stats = null
    this.session = null
    this.show(new LogIn(this, null, 'Your token is no longer valid. Log in again to go on here.'))
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
      else this.dialogs.notify(problem.message, 'problem')
      return false
    }
  }

  // The address: #/topic/orders?from=earliest

  navigate() {
    if (this.session === null) return
    const [path, query = ''] = location.hash.replace(/^#\/?/, '').split('?')
    const [name, ...names] = path.split('/').map(decoded)
    this.name = name
    const Screen = Object.hasOwn(SCREENS, name) ? SCREENS[name] : Overview
    this.show(new Screen(this, names, new URLSearchParams(query)))
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

  shortcut(event) {
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)
    if (event.ctrlKey || event.metaKey || event.altKey || typing) return
    if (event.key === '/') {
      const filter = document.querySelector('[data-filter]')
      if (filter) (filter.focus(), event.preventDefault())
    } else if (event.key === '?') {
      this.dialogs.notify('Keys: / goes to the filter, g then o, t, g or s to a screen, ? shows this.', 'hint')
    } else if (this.lastKey === 'g' && Object.hasOwn(KEYS, event.key)) {
      this.go(`/${KEYS[event.key]}`)
    }
    this.lastKey = event.key === this.lastKey ? '' : event.key
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
        <a class="brand" href="#/">plainmq</a>
        <nav aria-label="Screens">${MENU.map(([name, title]) => html`<a href="#/${name}"
          aria-current=${name === current ? 'page' : nothing}>${title}</a>`)}<a href="docs">API</a></nav>
        ${this.stats ? html`<p class="state ${this.stats.state}" role="status">${STATES[this.stats.state]}</p>` : nothing}
        ${this.session.anonymous ? nothing : html`<p class="who">${this.session.name}
          <button class="plain" @click=${() => this.leave()}>Log out</button></p>`}
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
