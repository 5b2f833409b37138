package docker

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// checker returns the program that holds files against schemas.
func checker(t *testing.T) func(files ...string) (said string, err error) {
	t.Helper()
	node := tool(t, "node", "nodejs")
	if _, err := os.Stat(filepath.Join(os.Getenv("NODE_PATH"), "kubernetes-models")); err != nil {
		missing(t, "NODE_PATH names no directory with the packages of testdata/package.json")
	}
	return func(files ...string) (string, error) {
		out, err := exec.CommandContext(t.Context(), node, append([]string{"testdata/schema.mjs"}, files...)...).CombinedOutput()
		return string(out), err
	}
}

func TestFilesKeepTheirSchemas(t *testing.T) {
	check := checker(t)
	var files []string
	for _, pattern := range []string{"compose*.yaml", "kubernetes/*.yaml", "grafana/dashboards/*.json"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v, %v", pattern, found, err)
		}
		files = append(files, found...)
	}
	if said, err := check(files...); err != nil {
		t.Errorf("%v\n%s", err, said)
	}
}

// TestSchemasFindFaults shows that the schemas are there and are strict.
func TestSchemasFindFaults(t *testing.T) {
	check := checker(t)
	tests := []struct{ file, old, new, says string }{
		{"compose.yaml", "stop_grace_period:", "stop_grace:", `"stop_grace"`},
		{"kubernetes/deployment.yaml", "replicas: 2", "replicas: two", "replicas must be integer"},
		{"kubernetes/deployment.yaml", "policyTypes:", "policyType:", `"policyType"`},
		{"kubernetes/sidecar.yaml", "periodSeconds: 1\n", "periodSecond: 1\n", `"periodSecond"`},
		{"grafana/dashboards/overview.json", `"mode": "absolute"`, `"mode": "absolut"`, "absolut"},
		{"grafana/dashboards/overview.json", `"refresh": 2`, `"refreshed": 2`, `"refreshed"`},
		{"kubernetes/podmonitor.yaml", "targetLabel: job", "targetLable: job", `"targetLable"`},
	}
	dir := t.TempDir()
	var files []string
	for i, tt := range tests {
		file := filepath.Join(dir, fmt.Sprintf("bad%d.yaml", i))
		write(t, file, strings.Replace(read(t, tt.file), tt.old, tt.new, 1))
		files = append(files, file)
	}
	said, err := check(files...)
	if err == nil {
		t.Error("no fault was found")
	}
	for i, tt := range tests {
		if !regexp.MustCompile(regexp.QuoteMeta(files[i]) + ".*" + tt.says).MatchString(said) {
			t.Errorf("%s in %s was not found; it said:\n%s", tt.new, tt.file, said)
		}
	}
}
