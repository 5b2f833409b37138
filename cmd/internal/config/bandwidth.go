package config

import (
	"cmp"
	"fmt"
	"strings"
)

// Bandwidth bounds how many bytes a second a listener moves: in each session, and in all of
// them together over all acceptors. Upload is from clients, download to them, as nginx's
// proxy_upload_rate and proxy_download_rate have it.
type Bandwidth struct {
	Upload, Download           ByteRate
	TotalUpload, TotalDownload ByteRate
}

// ByteRate is a token bucket of bytes.
type ByteRate struct {
	Rate  int // a second; 0 = no limit
	Burst int // at once after a rest; 0 = a second's
}

// AtOnce is the burst in force.
func (r ByteRate) AtOnce() int { return cmp.Or(r.Burst, r.Rate) }

const (
	maxByteRate  = 16 << 30 // 137 Gbit/s
	maxByteBurst = 4 << 30

	// leastOfRate is the part of a second's bytes that a burst holds at least: sessions
	// sleep up to 0.15 s, and what comes meanwhile must have room. It is proxy.MinBurst.
	leastOfRate = 4
)

var (
	bandwidth      = byteSize(1, maxByteRate)
	bandwidthBurst = byteSize(1, maxByteBurst)
)

// byKey are all four, each with the first word of its keys.
func (b Bandwidth) byKey() []namedRate {
	return []namedRate{{"upload", b.Upload}, {"download", b.Download}, {"total_upload", b.TotalUpload}, {"total_download", b.TotalDownload}}
}

type namedRate struct {
	key string
	ByteRate
}

// checkBandwidth reports bursts that have no rate, or are too small for it.
func (b *builder) checkBandwidth(l Listener) {
	for _, r := range l.Bandwidth.byKey() {
		at := b.origin[pathOf("listener", l.Name)+"."+r.key+"_burst"]
		switch least := (r.Rate + leastOfRate - 1) / leastOfRate; {
		case r.Burst == 0:
		case r.Rate == 0:
			b.fault(at, `needs %[1]s_rate, such as %[1]s_rate = "10MiB": without it nothing is limited`, r.key)
		case r.Burst < least:
			b.fault(at, "must be at least %d, a quarter of %s_rate; got %d", least, r.key, r.Burst)
		}
	}
}

// String is the limits in a few words.
func (b Bandwidth) String() string {
	var all []string
	for _, r := range b.byKey() {
		if r.Rate > 0 {
			all = append(all, fmt.Sprintf("%s %s/s", strings.ReplaceAll(r.key, "_", " "), bytesText(r.Rate)))
		}
	}
	return strings.Join(all, ", ")
}

func bytesText(n int) string {
	switch {
	case n%(1<<20) == 0:
		return fmt.Sprintf("%d MiB", n>>20)
	case n%(1<<10) == 0:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d B", n)
}
