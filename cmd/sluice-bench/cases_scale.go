package main

// scaleCases measure what a long configuration costs before the first client, and what a session whose receiver does not read
// costs the kernel.
func scaleCases() []benchCase {
	ping := request{Down: 64}
	return []benchCase{
		{
			name: "many-listeners-200", family: scaleFamily, measure: measureScale, proxied: true, extra: bothModes, listeners: 200, acceptors: 4,
			about: "200 listeners, 4 acceptors", job: job{Held: 1, InFlight: 1, Request: ping},
		}, {
			name: "many-listeners-1000", family: scaleFamily, measure: measureScale, proxied: true, extra: bothModes, listeners: 1000, acceptors: 4,
			about: "1,000 listeners, 4 acceptors", job: job{Held: 1, InFlight: 1, Request: ping},
		}, {
			name: "many-backends", family: scaleFamily, measure: measureScale, proxied: true, extra: bothModes, listeners: 2, backends: 10000, acceptors: 4,
			about: "a pool of 10,000 backends, 4 acceptors", job: job{Held: 1, InFlight: 1, Request: ping},
		}, {
			name: "slow-readers", family: stallFamily, measure: measureStalled, extra: bothModes, files: fewFiles,
			about: "50 clients that ask for a stream and do not read it", job: job{Held: 1, InFlight: 1, Request: ping},
		},
	}
}
