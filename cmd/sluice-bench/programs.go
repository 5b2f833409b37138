package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
)

// findPrograms returns those of the asked proxies that are here, the path of each, and the peers that are not installed. A missing
// one that was named, or whose path was given, is an error. sluice is built into dir when no path is given.
func findPrograms(asked []*proxy, given map[string]string, named bool, dir string) (found []*proxy, paths map[string]string, missing []leftOut, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, nil, fmt.Errorf("path of this program: %w", err)
	}
	paths = map[string]string{}
	byFlag := map[string]string{"": self} // sluice is built once for both of its modes
	for _, p := range asked {
		path, known := byFlag[p.flag]
		if !known {
			path, err = findProgram(p, given[p.flag], dir)
			if err != nil && (p.peer || p.batch) && !named && given[p.flag] == "" {
				missing = append(missing, notInstalled(p, err))
				continue
			}
			if err != nil {
				return nil, nil, nil, fmt.Errorf("%s (-%s gives its path): %w", p.name, p.flag, err)
			}
			byFlag[p.flag] = path
		}
		if p.batch {
			if _, err := exec.LookPath(chrt); err != nil && named {
				return nil, nil, nil, fmt.Errorf("%s: %w", p.name, err)
			} else if err != nil {
				missing = append(missing, notInstalled(p, err))
				continue
			}
		}
		found = append(found, p)
		paths[p.name] = path
	}
	return found, paths, missing, nil
}

func notInstalled(p *proxy, err error) leftOut {
	return leftOut{Case: "all cases", Proxy: p.name, Why: "not installed: " + err.Error()}
}

func findProgram(p *proxy, given, dir string) (string, error) {
	switch {
	case given != "":
		return exec.LookPath(given)
	case p.flag == "sluice":
		return buildSluice(dir)
	default:
		return lookForProgram(p.flag)
	}
}

// lookForProgram looks where daemons are installed too.
func lookForProgram(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return exec.LookPath("/usr/sbin/" + name)
	}
	return path, nil
}

func buildSluice(dir string) (string, error) {
	path := filepath.Join(dir, "sluice")
	if out, err := exec.Command("go", "build", "-o", path, "sluice/cmd/sluice").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
}

// firstMatch returns what a program says of its version, "unknown" if nothing.
func firstMatch(expression, path string, args ...string) string {
	out, _ := exec.Command(path, args...).CombinedOutput()
	if found := regexp.MustCompile(expression).Find(out); found != nil {
		return string(found)
	}
	return "unknown"
}
