/** Who uses the console, and what they may do. */

import { ask, get, Problem } from './api.js'

export class Session {
  constructor(answer) {
    this.name = answer.name
    this.anonymous = answer.anonymous
    this.expires = answer.expires
    this.rights = answer.rights
  }

  /** Whether the right applies to this topic, or to every topic (`**`). */
  may(right, topic = '**') {
    return (this.rights[right] ?? []).some(pattern => covers(pattern, topic))
  }
}

/** Whether a pattern matches a topic, or everything that another pattern matches. */
export function covers(pattern, name) {
  const wanted = pattern.split(/[./]/)
  const given = name.split(/[./]/)
  for (const [index, segment] of wanted.entries()) {
    if (segment === '**') return given.length > index
    if (index >= given.length || given[index] === '**') return false
    if (segment !== '*' && segment !== given[index]) return false
  }
  return wanted.length === given.length
}

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
