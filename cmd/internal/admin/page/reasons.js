// How sessions ended, by reason, since sluice started.

import { byId, list, make, part, set, write } from './dom.js'
import { count, percent } from './format.js'

// A reason in words, and its tone.
export const reasons = {
  client_eof: ['the client closed first', 'good'],
  backend_eof: ['the backend closed first', 'good'],
  client_reset: ['the client broke off', 'note'],
  backend_reset: ['the backend broke off', 'bad'],
  connect_failed: ['no backend took the connection', 'bad'],
  connect_timeout: ['no backend answered in time', 'bad'],
  no_backend: ['no backend could be picked', 'bad'],
  idle_timeout: ['idle for too long', 'note'],
  half_closed_timeout: ['half closed for too long', 'note'],
  max_duration: ['reached its longest duration', 'good'],
  first_byte_timeout: ['the client sent nothing', 'note'],
  drain_deadline: ['cut at the end of a drain', 'wait'],
  worker_died: ['its worker died', 'bad'],
  internal_error: ['a fault of sluice or the machine', 'bad'],
  loop: ['the backend is sluice itself', 'bad'],
  proxy_missing: ['no PROXY header', 'note'],
  proxy_malformed: ['a wrong PROXY header', 'note'],
  proxy_untrusted: ['a PROXY header from a stranger', 'note'],
  hello_malformed: ['no TLS where a route asks for it', 'note'],
  preamble_timeout: ['its beginning was not sent in time', 'note'],
  starttls_refused: ['its backend refused TLS', 'bad'],
  starttls_timeout: ['its backend did not answer to TLS', 'bad'],
  backend_down: ['its backend went down', 'bad'],
  killed: ['ended by an operator', 'wait'],
  backend_left: ['its backend left the pool', 'wait'],
  rebalanced: ['moved to a backend with fewer', 'wait'],
  queue_full: ['every backend and the queue are full', 'bad'],
  queue_timeout: ['no backend had a place in time', 'bad'],
  max_sessions: ['rejected: too many sessions', 'wait'],
  denied: ['rejected: not allowed in', 'wait'],
  source_sessions: ['rejected: too many from one source', 'wait'],
  source_rate: ['rejected: one source came too often', 'wait'],
  rate: ['rejected: too many a second', 'wait'],
}

export const toneOf = reason => reasons[reason]?.[1] ?? 'bad'

export function showReasons(s, scope) {
  const by = new Map()
  for (const l of s.listeners) {
    if (scope && l.name !== scope) continue
    for (const [word, n] of [...Object.entries(l.closed), ...Object.entries(l.rejected)]) by.set(word, (by.get(word) ?? 0) + n)
  }
  const all = [...by].sort((a, b) => b[1] - a[1])
  const total = all.reduce((n, x) => n + x[1], 0)
  list(byId('reasons'), all.length ? all : [['', 0]], x => x[0], create, (node, [word, n]) => {
    if (!word) return
    write(part(node, 'count'), count(n))
    write(part(node, 'value'), percent(n / total))
    node.style.setProperty('--share', n / all[0][1])
    set(node, 'data-count', n)
  })
}

function create([word]) {
  if (!word) return make('li', { class: 'none' }, 'No session has ended yet.')
  return make('li', { 'data-reason': word, 'data-tone': toneOf(word) },
    make('span', { class: 'word' }, reasons[word]?.[0] ?? word.replaceAll('_', ' ')), make('code', {}, word),
    make('span', { class: 'count n' }), make('span', { class: 'value n' }), make('span', { class: 'track' }, make('span', { class: 'fill' })))
}
