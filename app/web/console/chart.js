/** Lines over time, as SVG: a library of charts would be ten times this console's own code. */

import { html, svg } from './vendor/lit-html.js'
import { number } from './format.js'

const WIDTH = 300
const HEIGHT = 48

/** `values`: the newest last. `show`: a value as text. */
export function sparkline(title, values, show = number) {
  const now = values.at(-1) ?? 0
  const most = Math.max(...values, 0)
  const scale = most || 1
  const step = WIDTH / Math.max(values.length - 1, 1)
  const points = values.map((value, index) => `${(index * step).toFixed(1)},${(HEIGHT - (value / scale) * (HEIGHT - 4) - 2).toFixed(1)}`)
  const area = `0,${HEIGHT} ${points.join(' ')} ${WIDTH},${HEIGHT}`
  return html`<svg class="chart" viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" role="img"
    aria-label="${title}: ${show(now)} now, at most ${show(most)}">
    ${svg`<polygon points=${area}></polygon><polyline points=${points.join(' ')}></polyline>`}
  </svg><p class="peak" aria-hidden="true">peak ${show(most)}</p>`
}
