package accesslog

import (
	"sluice/metrics"
	"sluice/metrics/journal"
)

// normal says whether a session ended as one should: "errors" leaves it out. One that
// only the second backend took is not normal, as with HAProxy's dontlog-normal.
func normal(r *journal.Record) bool {
	switch r.Kind {
	case journal.KindConnected:
		return r.Tries <= 1
	case journal.KindClosed:
		return (r.Reason == metrics.ReasonClientEOF || r.Reason == metrics.ReasonBackendEOF || r.Reason == metrics.ReasonMaxDuration) && r.Tries <= 1
	}
	return false
}

// empty says whether a client came and went without a byte in either direction, as the
// probes of balancers do. One that no backend took is not that.
func empty(r *journal.Record) bool {
	return r.Kind == journal.KindClosed && r.Received == 0 && r.Sent == 0 && r.Flags&journal.Partial == 0 &&
		(r.Reason == metrics.ReasonClientEOF || r.Reason == metrics.ReasonBackendEOF || r.Reason == metrics.ReasonClientReset)
}

// letters say who or what ended a session, as HAProxy's first letter does.
var letters = [metrics.NumReasons]byte{
	metrics.ReasonClientEOF:      '-',
	metrics.ReasonBackendEOF:     '-',
	metrics.ReasonClientReset:    'C',
	metrics.ReasonBackendReset:   'S',
	metrics.ReasonConnectFailed:  'S',
	metrics.ReasonConnectTimeout: 's',
	metrics.ReasonNoBackend:      'S',
	metrics.ReasonIdleTimeout:    'c',
	metrics.ReasonHalfClosed:     's', // what it waits for is mostly the backend's answer
	metrics.ReasonMaxDuration:    'P',
	metrics.ReasonFirstByte:      'c',
	metrics.ReasonDrainDeadline:  'K', // an operator has ended it
	metrics.ReasonWorkerDied:     'I',
	metrics.ReasonInternal:       'I',
	metrics.ReasonLoop:           'P',

	metrics.ReasonProxyMissing:    'P',
	metrics.ReasonProxyMalformed:  'P',
	metrics.ReasonProxyUntrusted:  'P',
	metrics.ReasonHelloMalformed:  'P',
	metrics.ReasonPreambleTimeout: 'c',
	metrics.ReasonBackendDown:     'D',
	metrics.ReasonKilled:          'K',
	metrics.ReasonBackendLeft:     'S',
	metrics.ReasonRebalanced:      'K',
	metrics.ReasonQueueFull:       'P',
	metrics.ReasonQueueTimeout:    's',
	metrics.ReasonDenied:          'P',
	metrics.ReasonSourceSessions:  'P',
	metrics.ReasonSourceRate:      'P',
	metrics.ReasonRate:            'P',
	metrics.ReasonStartTLSRefused: 'S',
	metrics.ReasonStartTLSTimeout: 's',
}

// code is the reason as HAProxy's two letters, or the nearest that they have: who ended
// the session, and how far it had come.
//
//   - both sides      C  the client    S  the backend   c  the client's timeout   s  the backend's
//     P  a limit         K  an operator   I  sluice itself  D  the backend is down
//     second: R before the first byte, Q waiting for a backend, C connecting, D relaying, - at its end
func code(r *journal.Record) [2]byte {
	if r.Kind == journal.KindRejected {
		if r.Reject != metrics.RejectMaxSessions {
			return [2]byte{'P', 'R'} // as of HAProxy's tcp-request connection reject
		}
		return [2]byte{'P', 'C'}
	}
	first := letters[r.Reason]
	switch r.Reason {
	case metrics.ReasonClientEOF, metrics.ReasonBackendEOF:
		return [2]byte{first, '-'}
	case metrics.ReasonConnectFailed, metrics.ReasonConnectTimeout, metrics.ReasonLoop, metrics.ReasonStartTLSRefused, metrics.ReasonStartTLSTimeout:
		return [2]byte{first, 'C'}
	case metrics.ReasonQueueFull, metrics.ReasonQueueTimeout:
		return [2]byte{first, 'Q'}
	case metrics.ReasonFirstByte, metrics.ReasonProxyMissing, metrics.ReasonProxyMalformed, metrics.ReasonProxyUntrusted,
		metrics.ReasonHelloMalformed, metrics.ReasonPreambleTimeout,
		metrics.ReasonDenied, metrics.ReasonSourceSessions, metrics.ReasonSourceRate, metrics.ReasonRate:
		return [2]byte{first, 'R'}
	case metrics.ReasonNoBackend:
		if r.Flags&journal.Queued != 0 {
			return [2]byte{'s', 'Q'}
		}
		return [2]byte{first, 'C'}
	}
	return [2]byte{first, stage(r)}
}

// stage is how far a session had come.
func stage(r *journal.Record) byte {
	switch {
	case r.Connected != 0 || r.Flags&journal.Partial != 0:
		return 'D'
	case r.Tries > 0:
		return 'C'
	case r.Flags&journal.Queued != 0:
		return 'Q'
	}
	return 'C'
}
