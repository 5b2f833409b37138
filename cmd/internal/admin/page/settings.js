// The configuration in force, its number, and what the last reload said.

import { byId, list, make, write } from './dom.js'
import { clock, count, lasted } from './format.js'

let shown = '' // the configuration whose text is shown

export function showSettings(s) {
  const c = s.config
  const ago = time => lasted((s.now - Date.parse(time)) / 1000) + ' ago'
  const results = Object.entries(c.reload.results).filter(r => r[1]).map(([word, n]) => `${count(n)} ${word}`).join(', ')
  const pairs = [
    ['File', c.path || 'none: from the command line'],
    ['Generation', c.generation],
    ['SHA-256', c.sha256 || '–'],
    ['In force since', `${clock(c.reload.last_success)}, ${ago(c.reload.last_success)}`],
    ['Last reload', c.reload.last ? `${c.reload.succeeded ? '' : 'changed nothing, '}${ago(c.reload.last_time)}: ${c.reload.last}` : 'none since the start'],
    ['Reloads', results || 'none'],
    ['Steering', [...new Set(s.listeners.map(l => l.steering.effective))].join(', ')],
    ['Limit of sessions', s.max_sessions ? count(s.max_sessions) : 'none'],
  ]
  list(byId('config'), pairs, p => p[0], p => make('div', {}, make('dt', {}, p[0]), make('dd', {})), (node, p) => write(node.lastChild, p[1]))
  const name = `${s.started} ${c.generation}`
  if (byId('config-text').open && shown !== name) {
    shown = name
    load()
  }
}

byId('config-text').addEventListener('toggle', e => e.target.open && load())

async function load() {
  const answer = await fetch('config').catch(() => null)
  const text = answer?.ok ? await answer.text() : 'It could not be had.'
  write(byId('config-text').querySelector('pre'), text.trim())
}
