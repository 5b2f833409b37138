// Acceptors: where each runs and how it is.

import { byId, list, make, part, set, write } from './dom.js'
import { bytes, count, percent, rate } from './format.js'

export function showAcceptors(s, rates) {
  const workers = new Map(s.workers.map(w => [w.worker, w]))
  const accepted = new Map()
  for (const l of s.listeners) {
    for (const a of l.acceptors) accepted.set(a.acceptor, (accepted.get(a.acceptor) ?? 0) + a.accepted)
  }
  list(byId('acceptors').tBodies[0], s.acceptors, a => a.acceptor, row, (tr, a) => fill(tr, a, workers.get(a.worker), accepted.get(a.acceptor) ?? 0, rates))
}

function row() {
  const n = name => make('td', { class: 'n ' + name })
  return make('tr', {}, make('td', { class: 'state' }, make('span', { class: 'mark', 'aria-hidden': 'true' }), make('span', { class: 'word' })),
    ...['number', 'worker', 'pid', 'cpu', 'used', 'memory', 'held', 'accepted', 'rate', 'hangs'].map(n))
}

function stateOf(a, w) {
  if (!w || w.state === 'dead') return ['✕', 'dead', 'bad']
  if (a.hung) return ['✕', 'hung', 'bad']
  if (a.leaving) return ['↓', 'leaving', 'wait']
  if (!a.accepting) return ['⊘', 'not accepting', 'wait']
  return a.parked ? ['✓', 'at rest', 'good'] : ['✓', 'accepting', 'good']
}

function fill(tr, a, w, accepted, rates) {
  const [mark, word, tone] = stateOf(a, w)
  set(tr, 'data-tone', tone)
  set(tr, 'data-acceptor', a.acceptor)
  write(part(tr, 'mark'), mark)
  write(part(tr, 'word'), word)
  write(part(tr, 'number'), a.acceptor)
  write(part(tr, 'worker'), a.worker + (w?.restarts ? `, ${count(w.restarts)} restarts` : ''))
  write(part(tr, 'pid'), w?.pid || '–')
  write(part(tr, 'cpu'), a.cpu ?? 'any')
  const used = w && rates.of(`cpu ${w.worker} ${w.pid}`)
  write(part(tr, 'used'), used === null || used === undefined ? '–' : percent(used))
  write(part(tr, 'memory'), w?.resident_bytes ? bytes(w.resident_bytes) : '–')
  write(part(tr, 'held'), count(a.sessions))
  write(part(tr, 'accepted'), count(accepted))
  const speed = rates.of('acceptor ' + a.acceptor)
  write(part(tr, 'rate'), speed === null ? '–' : rate(speed))
  write(part(tr, 'hangs'), count(a.hangs))
}
