/** Who uses the console, and what they may do. */

import { ask, get, Problem } from './api.js'

const MOST_PATTERNS = 64 // of one request
const EVERYTHING = '**'

export class Session {
  constructor(answer) {
    this.name = answer.name
    this.anonymous = answer.anonymous
    this.expires = answer.expires
    this.rights = answer.rights
    this.match = this.lists()
  }

  /** Whether one of the rights (`view admin`) applies to this topic or pattern. */
  may(rights, topic = EVERYTHING) {
    return rights.split(' ').some(right => (this.rights[right] ?? []).some(pattern => covers(pattern, topic)))
  }

  /** Which topics lists may show, as their `match`: null for all, [] for none. */
  lists() {
    const { view = [], admin = [] } = this.rights
    const patterns = [...new Set([...view, ...admin])]
    if (patterns.includes(EVERYTHING)) return null
    const widest = patterns.filter(one => !patterns.some(other => other !== one && covers(other, one)))
    return widest.slice(0, MOST_PATTERNS)
  }

  get listsAnything() {
    return this.match === null || this.match.length > 0
  }
}

/** Whether a pattern matches a topic, or everything that another pattern matches. */
export function covers(wide, narrow) {
  const rest = segments(narrow)
  for (const [separator, segment] of segments(wide)) {
    if (!rest.length) return false
    const [first, name] = rest.shift()
    if (separator !== first) return false
    if (segment === EVERYTHING) return true
    if (segment !== name && (segment !== '*' || name === EVERYTHING)) return false
  }
  return !rest.length
}

/** Each segment with the separator before it. */
const segments = name => [...name.matchAll(/([./]?)([^./]+)/g)].map(([, separator, segment]) => [separator, segment])

/** The session; null if a token is needed. Throws Problem. */
export async function loadSession() {
  try {
    return new Session(await get('session'))
  } catch (error) {
    if (error instanceof Problem && error.status === 401) return null
    throw error
  }
}

/** Put the token into a cookie that no script can read. Throws Problem. */
export const logIn = token => ask('POST', 'session', { headers: { Authorization: `Bearer ${token}` } })

export const logOut = () => ask('DELETE', 'session')
