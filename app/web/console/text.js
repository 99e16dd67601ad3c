/** What strangers wrote, as text that cannot disguise itself or disturb the page. */

export const MOST_SHOWN = 64 * 1_024 // characters of a body
const DEEPEST = 100 // levels of JSON that are indented: at 5,000 the blanks alone would be 50 MB

/** What a message's record carries, as bytes. */
export function bodyBytes(record) {
  if (record.data_base64 !== undefined) return Uint8Array.from(atob(record.data_base64), char => char.charCodeAt(0))
  return new TextEncoder().encode(record.data ?? '')
}

export const sizeOf = record => record.size ?? bodyBytes(record).length

const FORMS = { auto: automatic, text: plain, json: pretty, hex }

/** The body as text in one of the forms `auto`, `text`, `json`, `hex`, cut at MOST_SHOWN. */
export function bodyText(record, form) {
  const text = FORMS[form](record)
  return text.length > MOST_SHOWN ? `${text.slice(0, MOST_SHOWN)}…` : text
}

function automatic(record) {
  if (record.data_base64 !== undefined) return hex(record)
  return record.content_type?.includes('json') ? pretty(record) : plain(record)
}

function plain(record) {
  return visible(record.data ?? new TextDecoder().decode(bodyBytes(record)))
}

function pretty(record) {
  const text = record.data ?? new TextDecoder().decode(bodyBytes(record))
  try {
    return text.length > MOST_SHOWN || depth(text) > DEEPEST ? visible(text) : visible(JSON.stringify(JSON.parse(text), null, 2))
  } catch {
    return visible(text)
  }
}

/** How deep brackets are nested. Those in strings count too: it only has to be bounded. */
function depth(text) {
  let deepest = 0
  let now = 0
  for (const char of text) {
    if (char === '[' || char === '{') deepest = Math.max(deepest, ++now)
    else if (char === ']' || char === '}') now -= 1
  }
  return deepest
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

/** Control characters, and those that are not seen or change the direction of text, as their pictures or numbers. */
export const visible = text =>
  text
    .replace(/[\u0000-\u0008\u000b-\u001f]/g, char => String.fromCharCode(0x2400 + char.charCodeAt(0)))
    .replace(/[\u007f-\u009f\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu, char => `⟨${char.codePointAt(0).toString(16)}⟩`)

/** The beginning of a body in one line. */
export function excerpt(record, length = 160) {
  const text = record.data_base64 === undefined ? (record.data ?? '') : ''
  const line = visible(text.slice(0, 2 * length)).replace(/\s+/g, ' ').trim()
  return line.length > length ? `${line.slice(0, length)}…` : line
}
