// Routes: where a listener's sessions go by what their clients ask for. Nothing is shown of
// listeners without them. Of many the busiest are shown, in the order of the configuration,
// so that rows stay where they are; and last what took none.

import { byId, list, make, part, set, write } from './dom.js'
import { bytes, count, percent } from './format.js'

const shows = 12

export function showRoutes(s, rates) {
  const routed = s.listeners.filter(l => l.routes?.length)
  byId('routes').hidden = !routed.length
  list(part(byId('routes'), 'panels'), routed, l => l.name, frame, (node, l) => fill(node, l, rates))
}

function frame(l) {
  const columns = ['Route', 'Takes', 'Pool', ['Held', 'n'], 'Share of bytes', ['In', 'n'], ['Out', 'n'], ['Sessions', 'n']]
  return make('article', { class: 'pool route', 'aria-label': 'Routes of listener ' + l.name },
    make('header', {}, make('h3', {}, l.name), make('span', { class: 'pick' })),
    make('div', { class: 'scroll', tabindex: 0, role: 'group', 'aria-label': 'Table of the routes of listener ' + l.name },
      make('table', {},
        make('thead', {}, make('tr', {}, ...columns.map(c => make('th', { scope: 'col', class: Array.isArray(c) ? c[1] : null }, Array.isArray(c) ? c[0] : c)))),
        make('tbody', {}))))
}

function fill(node, l, rates) {
  const rows = rowsOf(l, rates)
  const rest = l.routes_total - rows.length
  write(part(node, 'pick'), rest > 0 ? `the busiest ${rows.length} of ${count(l.routes_total)} routes; sluice status has all` : count(rows.length) + (rows.length === 1 ? ' route' : ' routes'))
  rows.push(restOf(l, rates))
  const all = rates.of('received ' + l.name) + rates.of('sent ' + l.name)
  list(node.querySelector('tbody'), rows, r => r.key, row, (tr, r) => fillRow(tr, r, all))
}

function rowsOf(l, rates) {
  const rows = l.routes.map((r, at) => ({
    key: r.name, at, name: r.name, takes: r.on, pool: r.pool, active: r.active ?? 0, sessions: r.sessions ?? 0,
    in: rates.of(`received ${l.name} ${r.name}`), out: rates.of(`sent ${l.name} ${r.name}`),
  }))
  if (rows.length <= shows) return rows
  const busy = r => r.in + r.out
  return rows.sort((a, b) => busy(b) - busy(a) || b.active - a.active || a.at - b.at).slice(0, shows).sort((a, b) => a.at - b.at)
}

// restOf is what took no route, or has not said yet what it asks for. The figures are read
// one after the other, so a difference may be a little below 0.
function restOf(l, rates) {
  const left = way => {
    const all = rates.of(`${way} ${l.name}`), routed = rates.of(`${way} ${l.name} `)
    return all === null || routed === null ? null : Math.max(0, all - routed)
  }
  const held = l.acceptors.reduce((n, a) => n + a.active, 0)
  return { key: '', name: 'no route', takes: 'all else', pool: l.pool, active: Math.max(0, held - (l.routed.active ?? 0)), sessions: null, in: left('received'), out: left('sent') }
}

function row() {
  const cell = (name, ...children) => make('td', { class: name }, ...children)
  return make('tr', {},
    cell('name'), cell('takes'), cell('pool-name'), cell('n held'),
    cell('share', make('span', { class: 'track' }, make('span', { class: 'fill' })), make('span', { class: 'value' })),
    cell('n in'), cell('n out'), cell('n sessions'))
}

function fillRow(tr, r, all) {
  set(tr, 'class', r.key ? null : 'rest')
  set(tr, 'data-route', r.key)
  write(part(tr, 'name'), r.name)
  write(part(tr, 'takes'), r.takes)
  write(part(tr, 'pool-name'), r.pool)
  write(part(tr, 'held'), count(r.active))
  const share = all > 0 ? Math.min(1, (r.in + r.out) / all) : 0
  part(tr, 'share').style.setProperty('--share', share)
  write(part(tr, 'value'), all > 0 ? percent(share) : '')
  write(part(tr, 'in'), perSecond(r.in))
  write(part(tr, 'out'), perSecond(r.out))
  write(part(tr, 'sessions'), r.sessions === null ? '' : count(r.sessions))
}

const perSecond = x => (x === null ? '–' : bytes(x) + '/s')
