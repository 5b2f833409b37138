// What the page shows is one view of /status.json each second, and what is new in the
// history and of ended sessions. They come as events over one connection, which is closed
// while nobody sees the page.
//
//   /events ─► status  ─► balance, routes, pools, acceptors, reasons, settings
//           ─► history ─► charts
//           ─► ended   ─► sessions

import { byId, list, make, set, write } from './dom.js'
import { count, lasted } from './format.js'
import { showBalance } from './balance.js'
import { charts } from './charts.js'
import { showRoutes } from './routes.js'
import { showPools } from './pools.js'
import { showAcceptors } from './acceptors.js'
import { showReasons } from './reasons.js'
import { addSessions, clearSessions } from './sessions.js'
import { showSettings } from './settings.js'
import { Rates } from './rates.js'

const retryAfter = [500, 1000, 2000, 5000] // ms; the last one again and again
const silentFor = 60000 // ms without an event after which the connection counts as broken

let source = null
let tries = 0
let timer = 0
let scope = ''
let life = '' // when this sluice started
let edition = ''
let last = null
const rates = new Rates()

function open() {
  clearTimeout(timer)
  source?.close()
  source = null
  if (document.hidden) return
  source = new EventSource('events?listener=' + encodeURIComponent(scope))
  charts.begin()
  source.addEventListener('status', e => heard(() => status(JSON.parse(e.data))))
  source.addEventListener('history', e => heard(() => charts.add(JSON.parse(e.data))))
  source.addEventListener('ended', e => heard(() => addSessions(JSON.parse(e.data))))
  source.addEventListener('error', retry)
  timer = setTimeout(retry, silentFor)
}

function heard(what) {
  clearTimeout(timer)
  timer = setTimeout(retry, silentFor)
  tries = 0
  what()
}

function retry() {
  source?.close()
  source = null
  live('lost', last ? 'not connected: figures of ' + lasted((Date.now() - last.at) / 1000) + ' ago' : 'not connected')
  document.body.classList.add('stale')
  clearTimeout(timer)
  timer = setTimeout(open, retryAfter[Math.min(tries++, retryAfter.length - 1)])
}

function live(kind, text) {
  write(byId('live'), text)
  set(byId('live'), 'data-kind', kind)
}

function status(s) {
  if (edition && s.page !== edition) {
    location.reload() // another sluice, another page
    return
  }
  edition = s.page
  if (life !== s.started) {
    life = s.started
    clearSessions()
  }
  s.at = Date.now()
  s.now = Date.parse(s.time)
  rates.add(s)
  last = s
  document.body.classList.remove('stale')
  live('on', 'live')
  head(s)
  chooser(s)
  showBalance(s, rates)
  showRoutes(s, rates)
  showPools(s)
  showAcceptors(s, rates)
  showReasons(s, scope)
  showSettings(s)
  byId('main').dataset.time = s.time
}

function head(s) {
  write(byId('instance'), s.name ? ' · ' + s.name : '')
  const state = s.draining ? ['draining', 'wait'] : s.ready ? ['ready', 'good'] : ['not ready', 'bad']
  write(byId('state'), state[0])
  set(byId('state'), 'data-tone', state[1])
  const held = s.acceptors.reduce((n, a) => n + a.sessions, 0)
  write(byId('facts'), `${count(held)} sessions held · up ${lasted((s.now - Date.parse(s.started)) / 1000)} · ${s.mode} mode · configuration ${s.config.generation}`)
  document.title = (s.ready ? '' : state[0] + ' · ') + 'sluice' + (s.name ? ' ' + s.name : '')
  write(byId('edition'), `sluice ${s.version}, ${s.go_version}`)
  const notice = byId('notice')
  const problem = s.config.reload.succeeded ? '' : 'The last reload changed nothing: ' + s.config.reload.last
  write(notice, problem)
  notice.hidden = !problem
}

// chooser offers the listeners that there are.
function chooser(s) {
  const select = byId('scope')
  list(select, ['', ...s.listeners.map(l => l.name)], name => name, name => make('option', { value: name }, name || 'all'))
  if (scope && !s.listeners.some(l => l.name === scope)) choose('')
  if (select.value !== scope) select.value = scope
}

function choose(name) {
  scope = name
  charts.clear()
  open()
  if (last) showReasons(last, scope)
}

byId('scope').replaceChildren()
byId('scope').addEventListener('change', e => choose(e.target.value))
document.addEventListener('visibilitychange', open)
addEventListener('pagehide', () => source?.close())
addEventListener('pageshow', e => e.persisted && open())
open()
