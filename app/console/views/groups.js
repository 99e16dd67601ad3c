/** The groups of all topics. */

import { html } from '../vendor/lit-html.js'
import { number } from '../format.js'
import { emptyState, groupLink, paused, problemNote, table, time, topicLink } from '../ui.js'
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

  view() {
    return html`<h1>Groups</h1>
      ${this.bar('group', 'part of topic/group')}
      ${problemNote(this.problem, () => this.refresh())}
      ${table('Groups', COLUMNS, this.rows, {
        sorted: this.sort, onSort: sort => this.order(sort), mark: row => (row.dead ? 'marked' : ''), empty: this.empty(),
      })}
      ${this.pager()}`
  }

  empty() {
    if (!this.loaded) return 'Loading …'
    if (this.filter) return 'No group has this text in its name.'
    return emptyState('There is no group yet.',
      html`A group shares the messages of a topic among its consumers, and keeps each until it is acked. The first pull makes it:
        <code>curl -X POST ${new URL('topics/TOPIC/groups/GROUP/pull', document.baseURI).href}</code>`)
  }
}
