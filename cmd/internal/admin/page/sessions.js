// The last sessions that ended, as the journal has them, with a filter.

import { byId, list, make, write } from './dom.js'
import { bytes, clock, count, lasted } from './format.js'
import { toneOf } from './reasons.js'

const keeps = 1000
const shows = 100

let all = [] // the newest first
let number = 0
let missed = 0

for (const id of ['find-session', 'only-faults', 'hold']) byId(id).addEventListener('input', show)

export function clearSessions() {
  all = []
  missed = 0
  show()
}

export function addSessions(e) {
  missed += e.missed
  for (const s of e.sessions) all.unshift({ ...s, key: number++, tone: toneOf(s.reason), text: Object.values(s).join(' ').toLowerCase() })
  all.length = Math.min(all.length, keeps)
  if (!byId('hold').checked) show()
}

function show() {
  const wanted = byId('find-session').value.trim().toLowerCase().split(/\s+/).filter(Boolean)
  const faults = byId('only-faults').checked
  const fitting = all.filter(s => (!faults || s.level === 'warn') && wanted.every(w => s.text.includes(w)))
  list(byId('ended').tBodies[0], fitting.slice(0, shows), s => s.key, row)
  const none = byId('ended-none')
  none.hidden = fitting.length > 0
  write(none, all.length ? 'None fits.' : 'Sessions that end while this page is open appear here.')
  const notes = []
  if (all.length) notes.push(`${count(Math.min(fitting.length, shows))} of the last ${count(all.length)} shown`)
  if (missed) notes.push(`${count(missed)} more ended too fast to be listed`)
  write(byId('ended-note'), notes.join('; '))
}

function row(s) {
  const cell = (name, text) => make('td', { class: name || null }, text)
  return make('tr', { 'data-tone': s.tone },
    cell('', clock(s.time)), cell('reason', s.reason ?? ''), cell('mono', s.client ?? ''), cell('', s.listener ?? ''),
    cell('mono', s.backend ?? '–'), cell('n', s.duration_ms === undefined ? '–' : lasted(s.duration_ms / 1000)),
    cell('n', s.bytes_in === undefined ? '–' : bytes(s.bytes_in)), cell('n', s.bytes_out === undefined ? '–' : bytes(s.bytes_out)), cell('n', s.acceptor))
}
