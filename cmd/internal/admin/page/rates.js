// Rates are what counters grew by a second, over the last few looks.

const over = 4 // looks: a figure that a person can read does not jump each second

export class Rates {
  looks = []

  add(s) {
    const look = { time: s.now, started: s.started, at: new Map() }
    for (const l of s.listeners) {
      let accepted = 0
      for (const a of l.acceptors) {
        accepted += a.accepted
        const of = 'acceptor ' + a.acceptor
        look.at.set(of, (look.at.get(of) ?? 0) + a.accepted)
      }
      look.at.set('accepted ' + l.name, accepted)
      look.at.set('received ' + l.name, total(l.received_bytes))
      look.at.set('sent ' + l.name, total(l.sent_bytes))
      for (const r of [...(l.routes ?? []), ...(l.routed ? [l.routed] : [])]) { // all of them together have no name
        look.at.set(`received ${l.name} ${r.name ?? ''}`, r.received_bytes ?? 0)
        look.at.set(`sent ${l.name} ${r.name ?? ''}`, r.sent_bytes ?? 0)
      }
    }
    for (const w of s.workers) look.at.set(`cpu ${w.worker} ${w.pid}`, w.cpu_seconds)
    if (this.looks.at(-1)?.time === look.time) return // the same look
    if (this.looks.length && (this.looks[0].started !== look.started || this.looks.at(-1).time > look.time)) this.looks = []
    this.looks.push(look)
    if (this.looks.length > over + 1) this.looks.shift()
  }

  // of is a counter's rate; null = it is not known yet.
  of(name) {
    const first = this.looks.find(l => l.at.has(name))
    const now = this.looks.at(-1)
    if (!first || first === now || !now.at.has(name)) return null
    return Math.max(0, now.at.get(name) - first.at.get(name)) / ((now.time - first.time) / 1000)
  }
}

const total = counts => Object.values(counts).reduce((a, b) => a + b, 0)
