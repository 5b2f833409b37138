// The charts of the last 15 minutes. sluice keeps the ticks; the page asks for what is new.
// Up to eight acceptors have a line each, more of them a band from the lowest to the highest.

import { byId, list, make, set } from './dom.js'
import { Chart } from './chart.js'
import { bytes, rate, seconds, short } from './format.js'

const ownLines = 8
const keeps = 15 * 60 * 1000 // ms
const tones = ['s0', 's1', 's2', 's3', 's4', 's5', 's6', 's7']

let ticks = []
let fresh = true // the next history begins a connection: it has all

const numbers = () => [...new Set(ticks.flatMap(t => t.s.map(s => s.a)))].sort((a, b) => a - b)

// perAcceptor makes lines of a field, or a band and its mean.
function perAcceptor(field) {
  return ticks => {
    const all = numbers()
    const values = ticks.map(t => new Map(t.s.map(s => [s.a, s[field] ?? null])))
    if (all.length <= ownLines) {
      return all.map((n, i) => ({ name: String(n), label: String(n), tone: tones[i], values: values.map(v => v.get(n) ?? null) }))
    }
    const over = f => values.map(v => {
      const known = [...v.values()].filter(x => x !== null)
      return known.length ? f(known) : null
    })
    const [low, high] = [over(k => Math.min(...k)), over(k => Math.max(...k))]
    return [
      { name: 'band', low, high, tone: 's0' },
      { name: 'lowest', values: low, tone: 's0 edge' },
      { name: 'mean', values: over(k => k.reduce((a, b) => a + b, 0) / k.length), tone: 's0' },
      { name: 'highest', values: high, tone: 's0 edge' },
    ]
  }
}

const field = (name, label, from, tone) => ticks => ({ name, label, tone, values: ticks.map(t => t[from] ?? null) })
const both = (...lines) => ticks => lines.map(line => line(ticks))

const all = [
  new Chart('Accepts a second, by acceptor', rate, perAcceptor('r')),
  new Chart('Sessions held, by acceptor', v => short(v), perAcceptor('h')),
  new Chart('Connections in accept queues', v => short(v), perAcceptor('q')),
  new Chart('Bytes a second', v => bytes(v), both(field('from clients', 'in', 'rx', 's0'), field('to clients', 'out', 'tx', 's1'))),
  new Chart('Time to connect to a backend', seconds, both(field('half within', '½', 'p50', 's0'), field('99 % within', '99', 'p99', 's1'))),
]
byId('charts').append(...all.map(c => c.node))

function show() {
  for (const c of all) c.show(ticks)
  const own = numbers()
  list(byId('legend'), own.length > ownLines ? [] : own, n => n, n => {
    const button = make('button', { type: 'button', 'aria-pressed': 'false' }, make('i', { 'aria-hidden': 'true' }), String(n))
    button.setAttribute('aria-label', 'acceptor ' + n)
    button.addEventListener('click', () => mark(byId('charts').dataset.only === String(n) ? '' : String(n)))
    return make('li', {}, button)
  }, (node, n) => set(node, 'class', tones[own.indexOf(n)]))
}

// mark brings one acceptor's lines forward.
function mark(name) {
  const root = byId('charts')
  root.dataset.only = name
  for (const [n, li] of byId('legend').keyed) set(li.firstChild, 'aria-pressed', String(String(n) === name))
  dim()
}

function dim() {
  const name = byId('charts').dataset.only ?? ''
  for (const node of byId('charts').querySelectorAll('[data-line]')) {
    node.classList.toggle('dim', name !== '' && /^\d+$/.test(node.dataset.line) && node.dataset.line !== name)
  }
}

export const charts = {
  begin() {
    fresh = true
  },
  clear() {
    ticks = []
    show()
  },
  // add joins new ticks. Those of a sluice that has ended stay in front.
  add(history) {
    const first = history.ticks[0]?.t ?? Infinity
    ticks = [...(fresh ? ticks.filter(t => t.t < first) : ticks), ...history.ticks]
    fresh = false
    const oldest = (ticks.at(-1)?.t ?? 0) - keeps
    ticks = ticks.filter(t => t.t >= oldest)
    show()
    dim()
  },
}
show()
