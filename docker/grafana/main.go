// Command grafana writes the dashboards beside it, in Grafana's classic JSON:
//
//	accept_balance.go ┐
//	overview.go       ├ boards: rows of panels ─► model.go ─► dashboards/*.json
//	backends.go       │                          (lays out,    provisioned as they are,
//	operations.go     ┘                           completes)   or imported by hand
//
// Run it after a change, from the top of the repository:
//
//	go run ./docker/grafana
//
// What reads the JSON is tested in docker/: it is up to date, Grafana's own lint
// rules hold, and every query returns data from a sluice under load.
package main

import (
	"flag"
	"log"
	"os"
	"path/filepath"
)

func main() {
	dir := flag.String("o", "docker/grafana/dashboards", "`DIRECTORY` to write to")
	flag.Parse()
	for _, b := range []board{acceptBalance, overview, backends, operations} {
		if err := os.WriteFile(filepath.Join(*dir, b.slug+".json"), b.render(), 0o644); err != nil {
			log.Fatal(err)
		}
	}
}
