// Chart draws lines of the last 15 minutes in SVG. It is as wide as its place, redraws
// only when there is something new, and tells what was at a moment to a pointer, to the
// arrow keys and to a screen reader.

import { make, set, write } from './dom.js'
import { clock } from './format.js'

const span = 15 * 60 * 1000 // ms
const gap = 30 * 1000 // ms without a tick: the line is broken
const height = 168
const left = 56
const right = 34
const top = 10
const bottom = 22
const labelHeight = 11

export class Chart {
  // title is read; unit formats a value; lines(ticks) returns lines and bands:
  // {name, values, tone} or {name, low, high, tone}, null for what is not known.
  constructor(title, unit, lines) {
    Object.assign(this, { title, unit, lines, ticks: [], at: -1, shown: [], highlight: null })
    this.caption = make('div', { class: 'caption' }, make('h3', {}, title), (this.readout = make('p', { class: 'readout' })))
    this.svg = make('svg', { role: 'img', height })
    this.node = make('div', { class: 'chart', tabindex: 0, role: 'group', 'aria-label': title }, this.caption, this.svg)
    this.grid = this.svg.appendChild(make('g', { class: 'grid' }))
    this.plot = this.svg.appendChild(make('g', { class: 'plot' }))
    this.cross = this.svg.appendChild(make('line', { class: 'cross', y1: top, y2: height - bottom, visibility: 'hidden' }))
    new ResizeObserver(() => this.draw()).observe(this.node)
    this.svg.addEventListener('pointermove', e => this.point(e.clientX - this.svg.getBoundingClientRect().left))
    this.svg.addEventListener('pointerleave', () => this.look(-1))
    this.node.addEventListener('keydown', e => this.key(e))
    this.node.addEventListener('blur', () => this.look(-1))
  }

  show(ticks) {
    this.ticks = ticks
    this.shown = this.lines(ticks)
    this.draw()
  }

  draw() {
    const width = this.node.clientWidth
    if (!width) return
    set(this.svg, 'width', width)
    set(this.svg, 'viewBox', `0 0 ${width} ${height}`)
    const end = this.ticks.at(-1)?.t ?? Date.now()
    this.x = t => left + (1 - (end - t) / span) * (width - left - right)
    const most = nice(Math.max(0, ...this.shown.flatMap(l => l.high ?? l.values).filter(v => v !== null)))
    this.y = v => top + (1 - v / most) * (height - top - bottom)
    this.drawGrid(width, end, most)
    this.plot.replaceChildren(...this.shown.map(l => this.drawn(l)), ...this.labels())
    if (!this.ticks.length) this.plot.append(make('text', { x: width / 2, y: height / 2, 'text-anchor': 'middle' }, 'the first figures come after 10 s'))
    this.look(this.at)
    set(this.svg, 'aria-label', this.title + ': ' + (this.ticks.length ? 'now ' + this.told(this.ticks.length - 1) : 'no figures yet'))
  }

  drawGrid(width, end, most) {
    const parts = []
    for (const share of [0, 0.5, 1]) {
      const y = this.y(share * most)
      parts.push(make('line', { x1: left, x2: width - right, y1: y, y2: y, class: share ? null : 'axis' }),
        make('text', { x: left - 8, y: y + 4, 'text-anchor': 'end' }, share ? this.unit(share * most) : '0'))
    }
    for (const minutes of width < 420 ? [15, 10, 5] : [15, 12, 9, 6, 3]) {
      parts.push(make('text', { x: this.x(end - minutes * 60000), y: height - 5, 'text-anchor': 'middle' }, `−${minutes}`))
    }
    parts.push(make('text', { x: width - right, y: height - 5, 'text-anchor': 'middle' }, 'now'))
    this.grid.replaceChildren(...parts)
  }

  drawn(line) {
    if (line.low) return make('path', { class: 'band ' + line.tone, d: this.area(line.low, line.high) })
    return make('path', { class: 'line ' + line.tone, d: this.path(line.values), 'data-line': line.name })
  }

  // labels name the lines where they end. Those that would lie on each other share one.
  labels() {
    const ends = this.shown.filter(l => l.label && (l.values.at(-1) ?? null) !== null).map(l => ({ ...l, y: this.y(l.values.at(-1)) }))
    const groups = []
    for (const end of ends.sort((a, b) => a.y - b.y)) {
      const last = groups.at(-1)
      last && end.y - last.y < labelHeight ? last.ends.push(end) : groups.push({ y: end.y, ends: [end] })
    }
    return groups.map(g => {
      const names = g.ends.map(e => e.label).sort((a, b) => a - b)
      const together = names.length > 2 && names.at(-1) - names[0] === names.length - 1 ? `${names[0]}–${names.at(-1)}` : names.join(' ')
      return make('text', { class: g.ends.length > 1 ? 'end' : 'end ' + g.ends[0].tone, x: this.x(this.ticks.at(-1).t) + 6, y: g.y + 4 }, together)
    })
  }

  path(values) {
    let d = ''
    let before = -Infinity
    for (const [i, v] of values.entries()) {
      if (v === null) continue
      const t = this.ticks[i].t
      d += (t - before > gap ? 'M' : 'L') + this.x(t).toFixed(1) + ' ' + this.y(v).toFixed(1)
      before = t
    }
    return d
  }

  area(low, high) {
    const known = this.ticks.map((_, i) => i).filter(i => high[i] !== null)
    const corner = values => i => this.x(this.ticks[i].t).toFixed(1) + ' ' + this.y(values[i]).toFixed(1)
    return known.length ? 'M' + [...known.map(corner(high)), ...known.reverse().map(corner(low))].join('L') + 'Z' : ''
  }

  point(x) {
    let best = -1
    for (const [i, tick] of this.ticks.entries()) {
      if (best < 0 || Math.abs(this.x(tick.t) - x) < Math.abs(this.x(this.ticks[best].t) - x)) best = i
    }
    this.look(best)
  }

  key(e) {
    const step = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity, Escape: 0 }[e.key]
    if (step === undefined || !this.ticks.length) return
    e.preventDefault()
    const from = this.at < 0 ? this.ticks.length : this.at
    this.look(e.key === 'Escape' ? -1 : Math.min(this.ticks.length - 1, Math.max(0, from + step)))
    set(this.readout, 'role', 'status')
  }

  // look shows what was at a tick; -1 is now.
  look(at) {
    this.at = at < this.ticks.length ? at : -1
    const i = this.at < 0 ? this.ticks.length - 1 : this.at
    write(this.readout, i < 0 ? '' : (this.at < 0 ? '' : clock(this.ticks[i].t) + '   ') + this.told(i))
    set(this.cross, 'visibility', this.at < 0 ? 'hidden' : 'visible')
    if (this.at >= 0) {
      set(this.cross, 'x1', this.x(this.ticks[i].t))
      set(this.cross, 'x2', this.x(this.ticks[i].t))
    }
  }

  told(i) {
    return this.shown.filter(l => l.values && l.values[i] !== null && l.values[i] !== undefined)
      .map(l => `${l.name}: ${this.unit(l.values[i])}`).join(' · ') || 'nothing'
  }
}

// nice is the next of 1, 2, 5 times a power of ten: ends of an axis that people can halve.
function nice(most) {
  if (most <= 0) return 1
  const power = 10 ** Math.floor(Math.log10(most))
  return [1, 2, 4, 6, 8, 10].find(f => f * power >= most * 1.02) * power || 10 * power
}
