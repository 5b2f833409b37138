// Balance: how evenly the acceptors of each listener share its work, at a glance.

import { byId, list, make, part, set, write } from './dom.js'
import { bytes, count, percent, rate, short, sum, times } from './format.js'

// A word, its mark (so that it is not told by hue alone), and the tone of its colour.
const words = {
  none: ['no traffic', '–', 'none'],
  even: ['even', '=', 'good'],
  chance: ['what chance gives', '≈', 'note'],
  skewed: ['skewed', '≠', 'bad'],
}

const manyAcceptors = 8 // from here on bars stand, and have no figures of their own

export function showBalance(s, rates) {
  const hung = new Set(s.acceptors.filter(a => a.hung).map(a => a.acceptor))
  list(byId('balance'), s.listeners, l => l.name, card, (node, l) => fill(node, l, hung, rates))
}

function card(l) {
  return make('article', { class: 'card', 'aria-label': 'Listener ' + l.name },
    make('header', {}, make('h3', {}, l.name), make('span', { class: 'address' }), make('span', { class: 'steering' })),
    make('p', { class: 'figures' }),
    measure('accepts'), measure('held'))
}

function measure(name) {
  return make('div', { class: 'measure ' + name },
    make('h4', {}, make('span', { class: 'what' }), make('strong', { class: 'verdict' }, make('span', { class: 'mark', 'aria-hidden': 'true' }), make('span', { class: 'word' }))),
    make('div', { class: 'shares' }, make('ul', { class: 'bars' }), make('div', { class: 'due' }, make('span', { class: 'due-label' }))),
    make('p', { class: 'why' }))
}

function fill(node, l, hung, rates) {
  write(part(node, 'address'), `${l.address} → ${l.pool}${l.leaving ? ' (leaving)' : ''}`)
  write(part(node, 'steering'), 'steering ' + l.steering.effective + (l.steering.reason ? `, asked for ${l.steering.requested}: ${l.steering.reason.replaceAll('_', ' ')}` : ''))
  set(part(node, 'steering'), 'data-tone', l.steering.reason ? 'wait' : null)
  const queued = l.acceptors.reduce((n, a) => n + (a.queue?.length ?? 0), 0)
  const drops = l.acceptors.reduce((n, a) => n + (a.queue?.drops ?? 0), 0)
  const figures = [
    known(rate, rates.of('accepted ' + l.name)) + ' accepts/s',
    count(l.acceptors.reduce((n, a) => n + a.active, 0)) + ' held',
    known(bytes, rates.of('received ' + l.name)) + '/s in',
    known(bytes, rates.of('sent ' + l.name)) + '/s out',
  ]
  if (queued) figures.push(count(queued) + ' in accept queues')
  if (drops) figures.push(count(drops) + ' dropped by full queues')
  if (l.waiting) figures.push(count(l.waiting) + ' wait for a backend')
  if (sum(l.rejected)) figures.push(count(sum(l.rejected)) + ' rejected')
  write(part(node, 'figures'), figures.join(' · '))
  const window = Math.round(l.balance.window_seconds)
  gauge(part(node, 'accepts'), l, l.balance.accepts, hung, `${count(l.balance.accepts.total)} accepts, ${window} s`)
  gauge(part(node, 'held'), l, l.balance.held, hung, `${count(l.balance.held.total)} held now`)
}

const known = (format, x) => (x === null ? '–' : format(x))

function gauge(node, l, b, hung, what) {
  const [word, mark, tone] = words[b.evenness] ?? words.none
  write(part(node, 'what'), what)
  write(part(node, 'word'), word)
  write(part(node, 'mark'), mark)
  set(part(node, 'verdict'), 'data-tone', tone)
  set(node, 'data-evenness', b.evenness)
  write(part(node, 'why'), why(b))
  const n = b.shares.length
  const due = 1 / n
  const most = Math.max(2 * due, ...b.shares)
  const many = n > manyAcceptors
  const shares = part(node, 'shares')
  set(shares, 'class', many ? 'shares many' : 'shares')
  shares.style.setProperty('--due', due / most)
  write(part(node, 'due-label'), `1/${n}`)
  list(part(node, 'bars'), b.shares.map((share, i) => ({ share, number: l.acceptors[i].acceptor })), x => x.number,
    x => make('li', {}, make('span', { class: 'who' }), make('span', { class: 'track' }, make('span', { class: 'fill' })), make('span', { class: 'value' })),
    (row, x) => {
      const is = hung.has(x.number)
      write(part(row, 'who'), x.number + (is ? ' hung' : ''))
      write(part(row, 'value'), b.total ? percent(x.share) : '–')
      set(row, 'data-share', x.share)
      set(row, 'data-tone', is ? 'bad' : off(x.share, due, b))
      set(row, 'title', `acceptor ${x.number}: ${percent(x.share)} of ${count(b.total)}${is ? ', hung' : ''}`)
      row.style.setProperty('--share', x.share / most)
    })
}

// off says whether a share is what makes a balance skewed.
function off(share, due, b) {
  if (b.evenness !== 'skewed') return null
  return share > due * b.chance.max_over_mean || share < due * (2 - b.chance.max_over_mean) ? 'bad' : null
}

// why is the figure behind the word.
function why(b) {
  if (!b.total) return 'Nothing to compare.'
  if (b.shares.length === 1) return 'One acceptor has it all.'
  const figures = `Jain ${b.jain.toFixed(3)}, χ²/df ${short(b.chi_square_per_df)}`
  if (b.spread <= 1) return `All within one of each other (${figures}).`
  return `The busiest has ${times(b.max_over_mean)} its share; chance alone would give ${times(b.chance.max_over_mean)} (${figures}).`
}
