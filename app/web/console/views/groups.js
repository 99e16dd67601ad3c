/** The groups of all topics: a list to filter and sort, and a form that makes one. */

import { html, nothing } from '../vendor/lit-html.js'
import { ask, groupPath } from '../api.js'
import { number } from '../format.js'
import { emptyState, groupFields, groupLink, groupSettings, paused, problemNote, table, time, topicLink } from '../ui.js'
import { ListScreen } from './screen.js'

const COLUMNS = [
  { title: 'Topic', sort: 'name', cell: row => topicLink(row.topic) },
  { title: 'Group', cell: row => html`${groupLink(row.topic, row.group)}${paused(row)}` },
  { title: 'Lag', sort: '-lag', number: true, cell: row => number(row.lag) },
  { title: 'Ready', number: true, cell: row => number(row.ready) },
  { title: 'Leased', sort: '-leased', number: true, cell: row => number(row.leased) },
  { title: 'Delayed', sort: '-delayed', number: true, cell: row => number(row.delayed) },
  { title: 'Dead', sort: '-dead', number: true, cell: row => (row.dead ? groupLink(row.topic, row.group, 'dead', number(row.dead)) : '0') },
  { title: 'Acked a second', sort: '-rate', number: true, cell: row => number(row.rate) },
  { title: 'Oldest', cell: row => time(row.oldest?.time) },
  { title: 'Consumers', number: true, cell: row => number(row.workers) },
]

export class Groups extends ListScreen {
  title = 'Groups'
  name = 'groups'
  sorts = ['-lag', 'name', '-leased', '-delayed', '-dead', '-rate']

  constructor(app, _names, query) {
    super(app, query)
  }

  async create(event) {
    event.preventDefault()
    const form = new FormData(event.target)
    const names = [form.get('topic').trim(), form.get('group').trim()]
    const settings = { start: form.get('start'), ...groupSettings(form) }
    if (await this.app.attempt(() => ask('PUT', groupPath(...names), { json: settings }))) {
      this.app.go(`/group/${names.map(encodeURIComponent).join('/')}`)
    }
  }

  view() {
    return html`<h1>Groups</h1>
      ${this.bar('group', 'part of topic/group')}
      ${problemNote(this.problem, () => this.refresh())}
      ${table('Groups', COLUMNS, this.rows, {
        sorted: this.sort, onSort: sort => this.order(sort), mark: row => (row.dead ? 'marked' : ''), empty: this.empty(),
      })}
      ${this.pager()}
      ${this.app.session.rights.admin?.length ? this.form() : nothing}`
  }

  form() {
    return html`<details class="sheet"><summary>Create a group</summary>
      <form class="fields" @submit=${event => this.create(event)}>
        <label>Topic <input name="topic" required maxlength="1024" placeholder="such as orders.eu"></label>
        <label>Name <input name="group" required maxlength="128" placeholder="such as billing"></label>
        <label>Begins with <select name="start"><option value="earliest">what is there</option><option value="latest">what comes from now on</option></select></label>
        ${groupFields({})}
        <button class="primary">Create</button>
      </form>
      <p class="hint">A group is also made by the first pull, with what is there. A topic that is not there is made too.</p>
    </details>`
  }

  empty() {
    if (!this.loaded) return 'Loading …'
    if (this.filter) return 'No group has this text in its name.'
    return emptyState('There is no group yet.',
      html`A group shares the messages of a topic among its consumers, and keeps each until it is acked. The first pull makes it:
        <code>curl -X POST ${new URL('topics/TOPIC/groups/GROUP/pull', document.baseURI).href}</code>`)
  }
}
