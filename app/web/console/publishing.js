/** A message that a person writes: what is sent, and the same as a line for a shell. */

import { address, topicPath } from './api.js'
import { quoted } from './format.js'

const PREFIX = 'X-Plainmq-'
const AS_THEY_ARE = /^(x-plainmq-.+|ce-.+|traceparent|tracestate)$/i
const OF_GROUPS = ['key', 'priority']
const DEFAULTS = { delivery: 'all', priority: '0' }

export class PublishForm {
  body = ''
  content_type = ''
  headers = '' // one a line: `Name: value`
  options = { event: '', ttl: '', priority: '0', key: '', delivery: 'all' }
  when = 'now' // or `delay`, `at`
  delay = ''
  at = '' // of an input of dates: local time

  constructor(topic) {
    this.topic = topic
  }

  /** Whether groups get it: others than they have no use for a key or a priority. */
  get isForGroups() {
    return this.options.delivery === 'all'
  }

  get parameters() {
    const due = { now: {}, delay: { delay: this.delay }, at: { at: this.at && new Date(this.at).toISOString() } }[this.when]
    const given = Object.entries(this.options).filter(([name, value]) => value !== (DEFAULTS[name] ?? '') && (this.isForGroups || !OF_GROUPS.includes(name)))
    return { ...Object.fromEntries(given), ...due }
  }

  /** `[name, value]` of each header. A name without a prefix gets plainmq's own. */
  get pairs() {
    const own = this.headers.split('\n').map(line => line.split(/:(.*)/s)).filter(([name]) => name.trim())
      .map(([name, value = '']) => [AS_THEY_ARE.test(name.trim()) ? name.trim() : PREFIX + name.trim(), value.trim()])
    return [...(this.content_type ? [['Content-Type', this.content_type]] : []), ...own]
  }

  /** Throws TypeError for a header that HTTP cannot carry. */
  request() {
    const headers = new Headers({ 'Content-Type': 'text/plain; charset=utf-8' })
    for (const [name, value] of this.pairs) headers.set(name, value)
    return { body: this.body, headers, parameters: this.parameters }
  }

  curl(anonymous) {
    const token = anonymous ? '' : ' -H "Authorization: Bearer $PLAINMQ_TOKEN"'
    const headers = this.pairs.map(([name, value]) => ` -H ${quoted(`${name}: ${value}`)}`).join('')
    const url = address(topicPath(this.topic, 'messages'), this.parameters).href
    return `curl${token}${headers} --data-raw ${quoted(this.body || 'hello')} ${quoted(url)}`
  }
}
