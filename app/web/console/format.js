/** Values as text for people. */

const NUMBER = new Intl.NumberFormat('en', { maximumFractionDigits: 1 })
const COMPACT = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 })
const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
const SPANS = [[86_400, 'd'], [3_600, 'h'], [60, 'min'], [1, 's']]

export const number = value => (Math.abs(value) < 100_000 ? NUMBER : COMPACT).format(value)

/** A count that nobody rounds. */
export const exact = value => NUMBER.format(value)

export const plural = (count, noun) => `${number(count)} ${count === 1 ? noun : noun.replace(/y$/, 'ie') + 's'}`

export function bytes(count) {
  let unit = 0
  while (count >= 1_024 && unit < UNITS.length - 1) {
    count /= 1_024
    unit += 1
  }
  return `${NUMBER.format(count)} ${UNITS[unit]}`
}

/** A duration in seconds: `1.2 s`, `3 min`, `250 ms`. */
export function duration(seconds) {
  if (seconds < 1) return `${NUMBER.format(seconds * 1_000)} ms`
  const [length, unit] = SPANS.find(([length]) => seconds >= length)
  return `${NUMBER.format(seconds / length)} ${unit}`
}

/** A time of the server (RFC 3339) relative to now. */
export function relative(time) {
  const seconds = (Date.now() - Date.parse(time)) / 1_000
  if (Math.abs(seconds) < 1) return 'now'
  const span = duration(Math.round(Math.abs(seconds)))
  return seconds > 0 ? `${span} ago` : `in ${span}`
}

export const clock = time => new Date(time).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'medium' })

/** A word as a shell takes it. */
export const quoted = word => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`)
