package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"sluice/cmd/internal/admin"
	"sluice/metrics"
)

// status shows a running sluice at a glance: what its /status.json says, for people. With
// -json it prints that as it is.
func status(e env, args []string) int {
	a := newAsking("sluice status", 10*time.Second)
	raw := a.Bool("json", false, "print /status.json as it is")
	if status := parse(e, a.FlagSet, args); status >= 0 {
		return status
	}
	return a.ask(e, func(ctx context.Context, c *admin.Client) error {
		text, err := c.Status(ctx)
		if err != nil {
			return err
		}
		if *raw {
			_, err := e.stdout.Write(text)
			return err
		}
		var s glance
		if err := json.Unmarshal(text, &s); err != nil {
			return fmt.Errorf("what it answers is no status: %w", err)
		}
		return s.write(e.stdout)
	})
}

// glance is the part of /status.json that is shown.
type glance struct {
	Time     time.Time `json:"time"`
	Version  string    `json:"version"`
	Name     string    `json:"name"`
	Mode     string    `json:"mode"`
	Started  time.Time `json:"started"`
	Ready    bool      `json:"ready"`
	Draining bool      `json:"draining"`
	Config   struct {
		Path       string         `json:"path"`
		Generation uint64         `json:"generation"`
		Reload     metrics.Reload `json:"reload"`
	} `json:"config"`
	Files     []metrics.File `json:"files"`
	Listeners []struct {
		metrics.Listener
		Waiting   int64 `json:"waiting"`
		Acceptors []struct {
			Accepted uint64 `json:"accepted"`
			Active   int64  `json:"active"`
		} `json:"acceptors"`
		Balance struct {
			Accepts struct {
				Evenness metrics.Evenness `json:"evenness"`
			} `json:"accepts"`
		} `json:"balance"`
	} `json:"listeners"`
	Pools []struct {
		Name     string                  `json:"name"`
		Queue    *metrics.PoolQueueStats `json:"queue"`
		Backends []struct {
			Name    string         `json:"name"`
			Backup  bool           `json:"backup"`
			Most    int            `json:"max_sessions"`
			Targets []glanceTarget `json:"targets"`
		} `json:"backends"`
	} `json:"pools"`
	Acceptors []struct {
		metrics.Acceptor
		Hung      bool  `json:"hung"`
		Sessions  int64 `json:"sessions"`
		Accepting bool  `json:"accepting"`
	} `json:"acceptors"`
}

type glanceTarget struct {
	Address  string              `json:"address"`
	State    metrics.TargetState `json:"state"`
	Since    time.Time           `json:"since"`
	Active   int64               `json:"active"`
	Sessions uint64              `json:"sessions"`
	Errors   map[string]uint64   `json:"connect_errors"`
	Failing  bool                `json:"failing"`
	Class    string              `json:"failing_class"`
	Operator *metrics.Operator   `json:"operator"`
	Check    struct {
		Error string `json:"error"`
	} `json:"check"`
}

// evennessWords are what people read of a balance.
var evennessWords = map[metrics.Evenness]string{
	metrics.EvennessNone: "-", metrics.EvennessEven: "even", metrics.EvennessChance: "as chance gives", metrics.EvennessSkewed: "skewed",
}

func (s *glance) write(w io.Writer) error {
	state := "not ready"
	switch {
	case s.Draining:
		state = "draining"
	case s.Ready:
		state = "ready"
	}
	fmt.Fprintf(w, "sluice %s%s, %s for %s, mode %s, generation %d of the configuration\n",
		s.Version, nonEmpty(" ", s.Name), state, s.ago(s.Started), s.Mode, s.Config.Generation)
	if r := s.Config.Reload; !r.Succeeded {
		fmt.Fprintf(w, "the last reload, %s ago, changed nothing: %s\n", s.ago(r.LastTime), r.Last)
	}
	for _, f := range s.Files {
		if !f.OK {
			fmt.Fprintf(w, "%s is not in force: %s; %d %s that it had before are\n", f.Path, f.Fault, f.Entries, f.Kind)
		}
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nLISTENER\tADDRESS\tPOOL\tSTEERING\tHELD\tACCEPTED\tLAST MINUTE\tWAITING")
	for _, l := range s.Listeners {
		var accepted uint64
		var held int64
		for _, a := range l.Acceptors {
			accepted += a.Accepted
			held += a.Active
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%d\t%s\t%d\n", l.Name+leaving(l.Leaving), addresses(l.Addresses), l.Pool, l.Steering.Effective, held, accepted,
			evennessWords[l.Balance.Accepts.Evenness], l.Waiting)
	}
	titled := false
	for _, l := range s.Listeners {
		for _, r := range l.Routes {
			if !titled {
				fmt.Fprintln(t, "\nROUTE\tLISTENER\tPOOL\tHELD\tSESSIONS\tIN\tOUT\tTAKES")
				titled = true
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\n", r.Name, l.Name, r.Pool, r.Active, r.Sessions, inBytes(float64(r.Received)), inBytes(float64(r.Sent)), r.On)
		}
	}
	fmt.Fprintln(t, "\nACCEPTOR\tWORKER\tSTATE\tHELD")
	for _, a := range s.Acceptors {
		state := "accepting"
		switch {
		case a.Hung:
			state = "HUNG"
		case a.Leaving:
			state = "leaving"
		case !a.Accepting:
			state = "not accepting"
		}
		fmt.Fprintf(t, "%d\t%d\t%s\t%d\n", a.Number, a.Worker, state, a.Sessions)
	}
	fmt.Fprintln(t, "\nBACKEND\tPOOL\tADDRESS\tSTATE\tSINCE\tHELD\tSESSIONS\tERRORS\t")
	for _, p := range s.Pools {
		for _, b := range p.Backends {
			name := b.Name
			if b.Backup {
				name += " (backup)"
			}
			if len(b.Targets) == 0 {
				fmt.Fprintf(t, "%s\t%s\t-\tno address\t\t\t\t\t\n", name, p.Name)
			}
			for _, x := range b.Targets {
				var errors uint64
				for _, n := range x.Errors {
					errors += n
				}
				held := strconv.FormatInt(x.Active, 10)
				if b.Most > 0 {
					held += " of " + strconv.Itoa(b.Most)
				}
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\n",
					name, p.Name, x.Address, x.State, s.ago(x.Since), held, x.Sessions, errors, x.why())
			}
		}
	}
	s.queues(t)
	return t.Flush()
}

// queues shows the pools where sessions wait for a place, or were not let in.
func (s *glance) queues(w io.Writer) {
	head := "\nQUEUE OF POOL\tWAITING\tSERVED\tTOO LATE\tNOT LET IN\n"
	for _, p := range s.Pools {
		if q := p.Queue; q != nil {
			fmt.Fprintf(w, "%s%s\t%d of %d\t%d\t%d\t%d\n", head, p.Name, q.Length, q.Limit, q.Ends.Of("served"), q.Ends.Of("timeout"), q.Ends.Of("full"))
			head = ""
		}
	}
}

// why says what a person should know of a target beside its state.
func (x glanceTarget) why() string {
	var said []string
	if o := x.Operator; o != nil {
		said = append(said, "by "+o.Who+nonEmpty(": ", o.Reason))
	}
	if x.Check.Error != "" {
		said = append(said, "its check: "+x.Check.Error)
	}
	switch {
	case x.Failing && x.Class == metrics.EjectEarlyClose.String():
		said = append(said, "ejected: it closes sessions early")
	case x.Failing:
		said = append(said, "takes no connection"+nonEmpty(": ", x.Class))
	}
	return strings.Join(said, "; ")
}

// ago is the time since then, to two units.
func (s *glance) ago(then time.Time) string {
	d := s.Time.Sub(then)
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}

// leaving marks what goes on to its end only.
func leaving(is bool) string {
	if is {
		return " (leaving)"
	}
	return ""
}

func nonEmpty(before, text string) string {
	if text == "" {
		return ""
	}
	return before + text
}

// addresses are those of a listener, in little room.
func addresses(all []string) string {
	switch len(all) {
	case 0:
		return ""
	case 1, 2:
		return strings.Join(all, " ")
	}
	return fmt.Sprintf("%s and %d more", all[0], len(all)-1)
}
