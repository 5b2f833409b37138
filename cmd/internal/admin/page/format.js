// Figures as people read them.

const whole = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 })

// count writes a number in full: 1,203,441. Counts are the same here and in /status.json.
export const count = n => whole.format(n)

// rate writes so many a second, to three digits.
export function rate(n) {
  if (n >= 1e6) return short(n / 1e6) + ' M'
  if (n >= 1e4) return short(n / 1e3) + ' k'
  return n >= 100 ? whole.format(n) : short(n)
}

// bytes writes bytes in the units of networks: powers of 1000.
export function bytes(n) {
  for (const unit of ['B', 'kB', 'MB', 'GB', 'TB']) {
    if (n < 1000) return (unit === 'B' ? whole.format(n) : short(n)) + ' ' + unit
    n /= 1000
  }
  return short(n) + ' PB'
}

// short keeps three digits.
export function short(n) {
  if (n === 0) return '0'
  if (n >= 100) return whole.format(n)
  return n >= 10 ? n.toFixed(1).replace(/\.0$/, '') : n.toFixed(2).replace(/\.?0+$/, '')
}

// times writes a ratio: 1.02 ×.
export const times = x => x.toFixed(2) + ' ×'

export const percent = x => (100 * x).toFixed(x >= 0.0995 || x === 0 ? 0 : 1) + ' %'

// seconds writes a wait: 180 µs, 1.2 ms, 3 s.
export function seconds(s) {
  if (s === 0) return '0'
  if (s < 1e-3) return short(s * 1e6) + ' µs'
  if (s < 1) return short(s * 1e3) + ' ms'
  return lasted(s)
}

// lasted writes a time to two units: 3m12s.
export function lasted(s) {
  s = Math.max(0, s)
  if (s < 10) return short(s) + 's'
  s = Math.floor(s)
  if (s < 60) return s + 's'
  if (s < 3600) return Math.floor(s / 60) + 'm' + (s % 60) + 's'
  if (s < 172800) return Math.floor(s / 3600) + 'h' + Math.floor((s % 3600) / 60) + 'm'
  return Math.floor(s / 86400) + 'd' + Math.floor((s % 86400) / 3600) + 'h'
}

// clock writes the time of day, local.
export const clock = time => new Date(time).toLocaleTimeString('en-GB')

export const sum = numbers => Object.values(numbers).reduce((a, b) => a + b, 0)
