package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
)

// RebalanceOrder says which pool's sessions are to be spread.
type RebalanceOrder struct {
	Pool      string
	DryRun    bool
	PerSecond int     // 0 = as configured
	Share     float64 // 0..1; 0 = the same
}

// MaxPerSecond bounds how many sessions a second an order may end.
const MaxPerSecond = 100_000

// Check says what is wrong with an order.
func (o RebalanceOrder) Check() error {
	switch {
	case o.Pool == "":
		return errors.New("which pool?")
	case o.PerSecond < 0 || o.PerSecond > MaxPerSecond:
		return fmt.Errorf("per-second must be from 1 to %d; got %d", MaxPerSecond, o.PerSecond)
	case !(o.Share >= 0 && o.Share <= 1):
		return fmt.Errorf("share must be a number from 0 to 1; got %v", o.Share)
	}
	return nil
}

func readRebalance(v url.Values) (o RebalanceOrder, err error) {
	r := &reading{Values: v}
	r.only("pool", "dry_run", "per_second", "share")
	o = RebalanceOrder{Pool: v.Get("pool"), PerSecond: int(r.number("per_second"))}
	if text := v.Get("share"); text != "" {
		o.Share, err = strconv.ParseFloat(text, 64)
		r.fail("share", err)
	}
	o.DryRun, err = truth(v.Get("dry_run"))
	r.fail("dry_run", err)
	return o, errors.Join(r.err, o.Check())
}

// Rebalance asks for the sessions of a pool to be spread. An order that was refused is a
// Verdict, not an error.
func (c *Client) Rebalance(ctx context.Context, o RebalanceOrder) (Verdict, error) {
	return c.do(ctx, "rebalance", url.Values{
		"pool": {o.Pool}, "dry_run": {strconv.FormatBool(o.DryRun)}, "per_second": {strconv.Itoa(o.PerSecond)}, "share": {strconv.FormatFloat(o.Share, 'g', -1, 64)},
	})
}

func (s *Server) rebalance(mux *http.ServeMux) {
	if s.o.Rebalance == nil {
		return
	}
	mux.HandleFunc("POST /rebalance", s.verb("rebalance", func(_ context.Context, r *http.Request) (Verdict, []slog.Attr, error) {
		o, err := readRebalance(r.URL.Query())
		if err != nil {
			return Verdict{}, nil, err
		}
		v := s.o.Rebalance(o)
		return v, []slog.Attr{slog.String("pool", o.Pool), slog.Bool("dry_run", o.DryRun), slog.Int("per_second", o.PerSecond),
			slog.Float64("share", o.Share), slog.String("text", v.Text)}, nil
	}))
}
