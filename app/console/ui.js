/** Parts that several screens use: notices, dialogs, tables, messages' bodies. */

import { html, nothing } from './vendor/lit-html.js'
import { bytes, clock, relative } from './format.js'

export const MOST_SHOWN = 64 * 1_024 // characters of a body

/** A time that a person reads, with the exact one in its tooltip. */
export const time = value => (value ? html`<time datetime=${value} title=${clock(value)}>${relative(value)}</time>` : '–')

export const topicLink = topic => html`<a href="#/topic/${encodeURIComponent(topic)}">${topic}</a>`

export const groupLink = (topic, group) =>
  html`<a href="#/group/${encodeURIComponent(topic)}/${encodeURIComponent(group)}">${group}</a>`

export const problemNote = problem => (problem ? html`<p class="problem" role="alert">${problem.message}</p>` : nothing)

/** A table. `columns`: each `{title, cell(row), number, sort}`; `sort` is the key that `onSort` gets. */
export function table(caption, columns, rows, { sorted, onSort, empty = 'None.', mark = () => '' } = {}) {
  const head = column =>
    column.sort && onSort
      ? html`<button class="sort" @click=${() => onSort(column.sort)}>${column.title}${sorted === column.sort ? ' ↓' : ''}</button>`
      : column.title
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${caption}><table>
    <caption>${caption}</caption>
    <thead><tr>${columns.map(column => html`<th scope="col" class=${column.number ? 'number' : ''}
      aria-sort=${sorted === column.sort && column.sort ? 'descending' : nothing}>${head(column)}</th>`)}</tr></thead>
    <tbody>${rows.length
      ? rows.map(row => html`<tr class=${mark(row)}>${columns.map(column => html`<td class=${column.number ? 'number' : ''}>${column.cell(row)}</td>`)}</tr>`)
      : html`<tr><td colspan=${columns.length} class="empty">${empty}</td></tr>`}</tbody>
  </table></div>`
}

/** What a message's record carries, as bytes. */
export function bodyBytes(record) {
  if (record.data_base64 !== undefined) return Uint8Array.from(atob(record.data_base64), char => char.charCodeAt(0))
  return new TextEncoder().encode(record.data ?? '')
}

const FORMS = { auto: automatic, text: plain, json: pretty, hex }

/** The body as text in one of the forms `auto`, `text`, `json`, `hex`, cut at MOST_SHOWN. */
export function bodyText(record, form) {
  const text = FORMS[form](record)
  return text.length > MOST_SHOWN ? `${text.slice(0, MOST_SHOWN)}…` : text
}

function automatic(record) {
  return record.data_base64 === undefined ? visible(record.data ?? '') : hex(record)
}

function plain(record) {
  return visible(record.data ?? new TextDecoder().decode(bodyBytes(record)))
}

function pretty(record) {
  const text = record.data ?? ''
  try {
    return text.length > MOST_SHOWN ? visible(text) : visible(JSON.stringify(JSON.parse(text), null, 2))
  } catch {
    return visible(text) // not JSON, or nested too deep
  }
}

function hex(record) {
  const shown = bodyBytes(record).subarray(0, MOST_SHOWN / 4)
  const lines = []
  for (let start = 0; start < shown.length; start += 16) {
    const part = [...shown.subarray(start, start + 16)]
    const codes = part.map(byte => byte.toString(16).padStart(2, '0')).join(' ')
    const text = part.map(byte => (byte >= 32 && byte < 127 ? String.fromCharCode(byte) : '.')).join('')
    lines.push(`${start.toString(16).padStart(6, '0')}  ${codes.padEnd(47)}  ${text}`)
  }
  return lines.join('\n')
}

/** Control characters, and those that change the direction of text, as their pictures: they cannot disguise a body. */
export const visible = text =>
  text
    .replace(/[\u0000-\u0008\u000b-\u001f]/g, char => String.fromCharCode(0x2400 + char.charCodeAt(0)))
    .replace(/[\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g, char => `⟨${char.charCodeAt(0).toString(16)}⟩`)

export const size = record => bytes(record.size ?? bodyBytes(record).length)
