/** Parts that several screens use: tables, links, errors, bodies of messages, times. */

import { html, nothing } from './vendor/lit-html.js'
import { advice } from './advice.js'
import { bytes, clock, relative } from './format.js'
import { bodyText, excerpt, sizeOf, visible } from './text.js'

/** A time that a person reads, with the exact one in its tooltip. */
export const time = value => (value ? html`<time datetime=${value} title=${clock(value)}>${relative(value)}</time>` : '–')

export const topicLink = topic => html`<a href="#/topic/${encodeURIComponent(topic)}">${topic}</a>`

export const groupLink = (topic, group, state = '', text = group) =>
  html`<a href="#/group/${encodeURIComponent(topic)}/${encodeURIComponent(group)}${state && `?state=${state}`}">${text}</a>`

export const paused = row => (row.paused ? html` <b class="badge warm">paused</b>` : nothing)

/** An error where something could not be loaded. */
export const problemNote = (problem, retry) => problem
  ? html`<div class="note problem" role="alert"><p>${problem.message}</p>
      ${advice(problem) ? html`<p class="hint">${advice(problem)}</p>` : nothing}
      ${retry ? html`<button @click=${retry}>Try again</button>` : nothing}</div>`
  : nothing

/** What is shown where there is nothing yet: a sentence, and what to do. */
export const emptyState = (title, ...hints) =>
  html`<div class="nothing"><p><b>${title}</b></p>${hints.map(hint => html`<p class="hint">${hint}</p>`)}</div>`

/** A table. `columns`: each `{title, cell(row), number, sort, label}`; `sort` is the key that `onSort` gets; `label`: of
 * a column without a title. */
export function table(caption, columns, rows, { sorted, onSort, empty = 'None.', mark = () => '' } = {}) {
  const head = column => {
    if (column.sort && onSort) {
      return html`<button class="sort" @click=${() => onSort(column.sort)}>${column.title}<span aria-hidden="true">${sorted === column.sort ? (column.sort.startsWith('-') ? ' ↓' : ' ↑') : ''}</span></button>`
    }
    return column.title || html`<span class="unseen">${column.label}</span>`
  }
  const order = column => (sorted === column.sort && column.sort ? (column.sort.startsWith('-') ? 'descending' : 'ascending') : nothing)
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${caption}><table>
    <caption>${caption}</caption>
    <thead><tr>${columns.map(column => html`<th scope="col" class=${column.number ? 'number' : ''} aria-sort=${order(column)}>${head(column)}</th>`)}</tr></thead>
    <tbody>${rows.length
      ? rows.map(row => html`<tr class=${mark(row)}>${columns.map(column => html`<td class=${column.number ? 'number' : ''}>${column.cell(row)}</td>`)}</tr>`)
      : html`<tr><td colspan=${columns.length} class="empty">${empty}</td></tr>`}</tbody>
  </table></div>`
}

export const hasBody = record => record.data !== undefined || record.data_base64 !== undefined

export const size = record => bytes(sizeOf(record))

/** The body of a message: its beginning, and all of it when it is opened, as it is at first in a form that was chosen.
 * `turned`: a set of the ids that are not as they were at first. */
export function body(record, turned, redraw, form = 'auto') {
  if (!hasBody(record)) return html`<p class="hint">${size(record)}. To see the body, a token needs the right <code>subscribe</code>.</p>`
  const atFirst = form !== 'auto'
  const isOpen = turned.has(record.id) !== atFirst
  const toggled = event => {
    if (event.target.open === isOpen) return
    turned[event.target.open === atFirst ? 'delete' : 'add'](record.id)
    redraw()
  }
  return html`<details class="body" .open=${isOpen} @toggle=${toggled}>
    <summary><span class="excerpt">${excerpt(record) || (sizeOf(record) ? 'bytes that are no text' : 'empty')}</span>
      <span class="measure">${size(record)} · ${visible(record.content_type ?? '')}</span></summary>
    ${isOpen ? html`<pre tabindex="0" aria-label="Body of ${record.id}">${bodyText(record, form)}</pre>
      ${record.truncated ? html`<p class="hint">This is the beginning of ${size(record)}.</p>` : nothing}` : nothing}
  </details>`
}

/** Headers, key and priority of a message. */
export const attributes = record => [
  ...(record.key ? [['key', record.key]] : []),
  ...(record.priority ? [['priority', String(record.priority)]] : []),
  ...Object.entries(record.headers ?? {}),
].map(([name, value]) => html`<span class="attribute">${visible(name)}: ${visible(value)}</span>`)

/** Fields for the settings of a group that a person changes; empty ones keep what is there. */
export const groupFields = state => html`
  <label>A lease lasts <input name="ack_timeout" placeholder="30s, or such as 5m" .value=${state.ack_timeout ?? ''}></label>
  <label>Dead after so many deliveries <input name="max_deliveries" type="number" min="1" max="1000" placeholder="10" .value=${state.max_deliveries ?? ''}></label>`

/** What was given in them. */
export const groupSettings = form => ({
  ...(form.get('ack_timeout') && { ack_timeout: form.get('ack_timeout') }),
  ...(form.get('max_deliveries') && { max_deliveries: Number(form.get('max_deliveries')) }),
})

/** Text to copy, with a button where the browser allows it. */
export const command = (text, label, app) => html`<div class="command"><pre tabindex="0" aria-label=${label}>${text}</pre>
  ${navigator.clipboard ? html`<button @click=${() => navigator.clipboard.writeText(text).then(() => app.dialogs.notify('Copied.'), () => app.dialogs.notify('The browser did not allow it: select the text.', 'hint'))}>Copy</button>` : nothing}</div>`
