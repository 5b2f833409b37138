package main

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// table is a family's part of the report, ready to be laid out.
type table struct {
	title string
	notes []string   // what each case is
	rows  [][]string // the first is the heading; all of the same length
}

// writeText prints a result for a terminal, writeMarkdown the same for a README.
func writeText(w io.Writer, r *result) {
	writeReport(w, r, "", layOutText)
}

func writeMarkdown(w io.Writer, r *result) {
	writeReport(w, r, "### ", layOutMarkdown)
}

func writeReport(w io.Writer, r *result, heading string, layOut func(io.Writer, [][]string)) {
	fmt.Fprintf(w, "Measured on %s: %s, %s, %s, TCP %s.\n", r.Date.Format("2006-01-02"), r.Machine.CPU, plural(r.Machine.Cores, "core"), r.Machine.Kernel, r.Machine.TCP)
	var versions []string
	for _, p := range r.Proxies {
		if p.Version != "" {
			versions = append(versions, p.Name+" "+p.Version+" ("+p.About+")")
		}
	}
	fmt.Fprintf(w, "%s.\n", strings.Join(versions, "; "))
	fmt.Fprintf(w, "%s each where the case does not say otherwise; client, proxy and backend share the machine over loopback. ", plural(r.Acceptors, "acceptor"))
	fmt.Fprintf(w, "Median of %s [min..max]; ×: median of the ratios to the best peer (%s) of the same round.\n",
		plural(r.Rounds, "round"), strings.Join(r.peers(), ", "))
	fmt.Fprintln(w, "CPU: of the proxy's process tree; ends: of the load generator and the backend; p50 and p99: latency that the client sees.")
	if r.Smoke {
		fmt.Fprintln(w, "A SMOKE: it proves that the cases run. Its figures mean nothing.")
	}
	for _, t := range r.tables() {
		fmt.Fprintf(w, "\n%s%s\n\n", heading, t.title)
		layOut(w, t.rows)
		fmt.Fprintln(w)
		for _, n := range t.notes {
			fmt.Fprintf(w, "- %s\n", n)
		}
	}
	if len(r.LeftOut) > 0 {
		fmt.Fprint(w, "\nLeft out:\n\n")
		for _, l := range r.LeftOut {
			fmt.Fprintf(w, "- %s, %s: %s\n", l.Case, l.Proxy, l.Why)
		}
	}
	if failed := r.failures(); len(failed) > 0 {
		fmt.Fprint(w, "\nFailed:\n\n")
		for _, f := range failed {
			fmt.Fprintf(w, "- %s, %s, round %d: %s\n", f.Case, f.Proxy, f.Round, f.Failed)
		}
	}
}

func (r *result) tables() []table {
	var tables []table
	for _, f := range families {
		t := table{title: f.name, rows: [][]string{headings(f.columns)}}
		for _, c := range r.Cases {
			if c.Family != f.name {
				continue
			}
			rows := r.rowsOf(c, f.columns)
			if len(rows) == 0 {
				continue
			}
			rows[0][0] = c.Name
			t.rows = append(t.rows, rows...)
			t.notes = append(t.notes, c.Name+": "+c.About)
		}
		if len(t.rows) > 1 {
			tables = append(tables, t)
		}
	}
	return tables
}

func headings(columns []column) []string {
	row := []string{"case", "proxy"}
	for _, c := range columns {
		row = append(row, c.head)
		if c.ratio {
			row = append(row, "×")
		}
	}
	return row
}

// rowsOf gives a row for each proxy that was measured, and one for chance.
func (r *result) rowsOf(c caseInfo, columns []column) [][]string {
	var rows [][]string
	for _, p := range r.Proxies {
		row, any := []string{"", p.Name}, false
		for _, col := range columns {
			s, measured := r.figure(c.Name, p.Name, col.key)
			any = any || measured
			row = append(row, cell(s, measured, col))
			if col.ratio {
				ratio, measured := r.ratio(c.Name, p.Name, col)
				row = append(row, ratioCell(ratio, measured && p.Name != direct))
			}
		}
		if any {
			rows = append(rows, row)
		}
	}
	if c.Chance != nil {
		row := []string{"", "(chance)"}
		for _, col := range columns {
			row = append(row, fmt.Sprintf("%.*f", col.digits, c.Chance[col.key]*col.scale))
		}
		rows = append(rows, row)
	}
	return rows
}

func cell(s series, measured bool, col column) string {
	if !measured {
		return "-"
	}
	return scaled(s, col.scale).format(col.digits)
}

func ratioCell(s series, measured bool) string {
	if !measured {
		return "-"
	}
	return fmt.Sprintf("%.2f", s.Median)
}

func layOutText(w io.Writer, rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, text := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(text))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, text := range row {
			line.WriteString(text)
			line.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text)+2))
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

func layOutMarkdown(w io.Writer, rows [][]string) {
	for i, row := range rows {
		fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			fmt.Fprintf(w, "|---|---%s|\n", strings.Repeat("|--:", len(row)-2))
		}
	}
}

func (r *result) peers() []string {
	var names []string
	for _, p := range r.Proxies {
		if p.Peer {
			names = append(names, p.Name)
		}
	}
	return names
}

func (r *result) versionOf(proxy string) string {
	for _, p := range r.Proxies {
		if p.Name == proxy {
			return proxy + " " + p.Version
		}
	}
	return "no " + proxy
}
