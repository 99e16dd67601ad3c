/** Requests to the server. Paths are relative to the page, so that the console works below a path of a proxy. */

const BASE = new URL('.', document.baseURI)

/** An error that the server explained (RFC 9457), or that kept the request from reaching it (`status` 0). */
export class Problem extends Error {
  constructor(status, code, detail) {
    super(detail)
    this.status = status
    this.code = code
  }
}

/** The address of a path; parameters without a value are left out, and of a list each item is one. */
export function address(path, parameters = {}) {
  const url = new URL(path, BASE)
  for (const [name, value] of Object.entries(parameters)) {
    for (const item of [value].flat()) {
      if (item !== undefined && item !== null && item !== '') url.searchParams.append(name, item)
    }
  }
  return url
}

/** The path of a topic, or of something below it. */
export const topicPath = (topic, ...rest) => ['topics', ...[topic, ...rest].map(encodeURIComponent)].join('/')

export const groupPath = (topic, group, ...rest) => topicPath(topic, 'groups', group, ...rest)

/** The response. Throws Problem. `parameters`: of the query; `json`: a body to send as JSON. */
export async function send(method, path, { parameters, json, body = json && JSON.stringify(json), headers, signal } = {}) {
  let response
  try {
    response = await fetch(address(path, parameters), { method, body, signal, headers, cache: 'no-store' })
  } catch (error) {
    if (error.name === 'AbortError') throw error
    throw new Problem(0, 'unreachable', 'The server cannot be reached.')
  }
  if (!response.ok) throw await problem(response)
  return response
}

/** The error that a response explains. */
export async function problem(response) {
  let explained = {}
  try {
    explained = await response.json()
  } catch {} // from a proxy, for instance
  const detail = explained.detail ?? `The server answered ${response.status} ${response.statusText}.`
  return new Problem(response.status, explained.code ?? '', detail)
}

/** The answer's JSON; null if it has none. Throws Problem. */
export async function ask(method, path, options) {
  const response = await send(method, path, options)
  return response.headers.get('content-type')?.includes('json') ? await response.json() : null
}

export const get = (path, parameters, signal) => ask('GET', path, { parameters, signal })
