// Pools and their backends. What needs a look stands first; of a large pool the first few
// are shown, and the rest on demand.

import { byId, list, make, part, set, write } from './dom.js'
import { bytes, count, lasted, percent, short, sum } from './format.js'

const atFirst = 25

// A state's mark, its tone, and its place in the order.
const states = {
  down: ['✕', 'bad', 0],
  panic: ['!', 'bad', 1],
  failing: ['✕', 'bad', 2],
  'no address': ['?', 'bad', 3],
  disabled: ['⊘', 'wait', 4],
  draining: ['↓', 'wait', 5],
  warming: ['↑', 'note', 6],
  up: ['✓', 'good', 7],
}

const open = new Set() // pools that are shown in full
let last = null

byId('find-backend').addEventListener('input', () => last && showPools(last))

export function showPools(s) {
  last = s
  const wanted = byId('find-backend').value.trim().toLowerCase()
  list(byId('pools'), s.pools, p => p.name, frame, (node, p) => fill(node, p, s, wanted))
}

function frame(p) {
  const more = make('button', { type: 'button', class: 'more' })
  more.addEventListener('click', () => {
    open.has(p.name) ? open.delete(p.name) : open.add(p.name)
    showPools(last)
  })
  const columns = ['State', 'Backend', 'Since', 'Why', ['Held', 'n'], 'Share', ['Sessions', 'n'], ['Errors', 'n'], ['From it', 'n'], ['To it', 'n']]
  return make('article', { class: 'pool' },
    make('header', {}, make('h3', {}, p.name), make('span', { class: 'pick' }), make('span', { class: 'summary' })),
    make('div', { class: 'scroll', tabindex: 0, role: 'group', 'aria-label': 'Backends of pool ' + p.name },
      make('table', {},
        make('thead', {}, make('tr', {}, ...columns.map(c => typeof c === 'string' ? make('th', { scope: 'col' }, c) : make('th', { scope: 'col', class: c[1] || null }, c[0])))),
        make('tbody', {}))),
    make('p', { class: 'none', hidden: true }, 'None fits.'), more)
}

function fill(node, p, s, wanted) {
  const rows = rowsOf(p, s)
  const held = rows.reduce((n, r) => n + r.active, 0)
  write(part(node, 'pick'), `picks ${p.pick.replaceAll('_', ' ')}${p.retries ? `, ${count(p.retries)} retries` : ''}${p.no_backend ? `, ${count(p.no_backend)} times no backend` : ''}`)
  summarise(part(node, 'summary'), rows, p.panic)
  let fitting = rows
  if (wanted) fitting = rows.filter(r => `${p.name} ${r.name} ${r.address} ${r.word} ${r.why}`.toLowerCase().includes(wanted))
  const shown = open.has(p.name) ? fitting : fitting.slice(0, atFirst)
  list(node.querySelector('tbody'), shown, r => r.key, row, (tr, r) => fillRow(tr, r, held))
  part(node, 'none').hidden = fitting.length > 0
  const more = part(node, 'more')
  more.hidden = fitting.length <= atFirst
  write(more, open.has(p.name) ? `Show the first ${atFirst}` : `Show all ${count(fitting.length)}`)
}

function rowsOf(p, s) {
  const rows = []
  for (const b of p.backends) {
    if (!b.targets.length) rows.push({ key: b.name, name: b.name, address: '', word: 'no address', since: '', active: 0, sessions: 0, errors: 0, received: 0, sent: 0, why: 'its name does not resolve', weight: b.weight })
    for (const t of b.targets) {
      const word = t.failing && (t.state === 'up' || t.state === 'warming') ? 'failing' : t.state || 'up'
      rows.push({
        key: b.name + ' ' + t.address, name: b.name + (b.backup ? ' (backup)' : ''), address: t.address === b.name ? '' : t.address, word,
        since: Date.parse(t.since) > 0 ? lasted((s.now - Date.parse(t.since)) / 1000) : '', active: t.active ?? 0, sessions: t.sessions ?? 0,
        errors: sum(t.connect_errors ?? {}), received: t.received_bytes ?? 0, sent: t.sent_bytes ?? 0, why: why(t, b), weight: b.weight,
      })
    }
  }
  const order = r => states[r.word]?.[2] ?? 3
  return rows.sort((a, b) => order(a) - order(b))
}

function why(t, b) {
  const said = []
  if (t.operator) said.push(`${t.operator.want} by ${t.operator.who}${t.operator.reason ? ': ' + t.operator.reason : ''}`)
  if (t.check?.error) said.push('check: ' + t.check.error)
  if (t.failing) said.push('takes no connection' + (t.failing_class ? ': ' + t.failing_class : ''))
  if (b.weight !== 1 || (t.weight_in_force !== b.weight && ['up', 'warming'].includes(t.state))) said.push(`weight ${short(t.weight_in_force)}${t.weight_in_force === b.weight ? '' : ' of ' + b.weight}`)
  const errors = Object.entries(t.connect_errors ?? {})
  if (errors.length && !t.failing) said.push('errors: ' + errors.map(([word, n]) => `${count(n)} ${word.replaceAll('_', ' ')}`).join(', '))
  return said.join('; ')
}

function summarise(node, rows, panic) {
  const by = new Map()
  for (const r of rows) by.set(r.word, (by.get(r.word) ?? 0) + 1)
  const words = [...by].sort((a, b) => (states[a[0]]?.[2] ?? 3) - (states[b[0]]?.[2] ?? 3))
  list(node, panic ? [['panic', ''], ...words.filter(w => w[0] !== 'panic')] : words, w => w[0], w => make('span', { class: 'badge', 'data-tone': (states[w[0]] ?? states.down)[1] }, make('span', { 'aria-hidden': 'true' }, (states[w[0]] ?? states.down)[0] + ' '), make('span', { class: 'text' })),
    (n, w) => write(part(n, 'text'), w[1] === '' ? 'panic: too few are left, all are used' : `${count(w[1])} ${w[0]}`))
}

function row() {
  const cell = (name, ...children) => make('td', { class: name }, ...children)
  return make('tr', {},
    cell('state', make('span', { class: 'mark', 'aria-hidden': 'true' }), make('span', { class: 'word' })),
    cell('name', make('span', { class: 'own' }), make('span', { class: 'at' })),
    cell('since'), cell('why'), cell('n held'), cell('share', make('span', { class: 'track' }, make('span', { class: 'fill' })), make('span', { class: 'value' })),
    cell('n sessions'), cell('n errors'), cell('n received'), cell('n sent'))
}

function fillRow(tr, r, held) {
  const [mark, tone] = states[r.word] ?? states.down
  set(tr, 'data-tone', tone)
  set(tr, 'data-backend', r.key)
  write(part(tr, 'mark'), mark)
  write(part(tr, 'word'), r.word)
  write(part(tr, 'own'), r.name)
  write(part(tr, 'at'), r.address)
  write(part(tr, 'since'), r.since)
  write(part(tr, 'held'), count(r.active))
  const share = held ? r.active / held : 0
  part(tr, 'share').style.setProperty('--share', share)
  write(part(tr, 'value'), held ? percent(share) : '')
  write(part(tr, 'sessions'), count(r.sessions))
  write(part(tr, 'errors'), count(r.errors))
  set(part(tr, 'errors'), 'data-tone', r.errors ? 'bad' : null)
  write(part(tr, 'received'), bytes(r.received))
  write(part(tr, 'sent'), bytes(r.sent))
  write(part(tr, 'why'), r.why)
}
