package docker

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// setting is a variable as Compose or Kubernetes files write it.
var setting = regexp.MustCompile(`(SLUICE_[A-Z_]+)(?:, value)?: "?([^"}\n#]+[^"}\n# ])`)

// TestSettingsInFilesAreValid has "sluice check" read what the files tell sluice:
// variables, and the configuration in a ConfigMap.
func TestSettingsInFilesAreValid(t *testing.T) {
	program := build(t)
	check := func(t *testing.T, env ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), program, "check")
		cmd.Env = append(os.Environ(), env...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %v\n%s", env, err, out)
		}
	}
	for _, file := range []string{"compose.yaml", "compose.sidecar.yaml", "kubernetes/sidecar.yaml", "kubernetes/daemonset.yaml"} {
		t.Run(file, func(t *testing.T) {
			var env []string
			for _, m := range setting.FindAllStringSubmatch(read(t, file), -1) {
				env = append(env, m[1]+"="+strings.Replace(m[2], "/etc/sluice/", "sluice/", 1)) // as it is mounted
			}
			check(t, env...)
		})
	}
	t.Run("kubernetes/deployment.yaml", func(t *testing.T) {
		_, text, found := strings.Cut(read(t, "kubernetes/deployment.yaml"), "  sluice.toml: |\n")
		if !found {
			t.Fatal("there is no sluice.toml")
		}
		text, _, _ = strings.Cut(text, "---\n")
		config := filepath.Join(t.TempDir(), "sluice.toml")
		write(t, config, text)
		check(t, "SLUICE_CONFIG="+config, "SLUICE_INSTANCE=sluice-0")
	})
}

// TestWorkloadsAskForNothing holds what each Pod may do to what sluice needs.
func TestWorkloadsAskForNothing(t *testing.T) {
	for _, file := range []string{"sidecar.yaml", "deployment.yaml", "daemonset.yaml"} {
		text := read(t, "kubernetes/"+file)
		for _, want := range []string{
			"automountServiceAccountToken: false", "runAsNonRoot: true", "readOnlyRootFilesystem: true", "allowPrivilegeEscalation: false",
			"capabilities: {drop: [ALL]}", "seccompProfile: {type: RuntimeDefault}", "kind: NetworkPolicy",
		} {
			if !regexp.MustCompile(`(?m)^[^#\n]*` + regexp.QuoteMeta(want)).MatchString(text) {
				t.Errorf("%s does not say %s", file, want)
			}
		}
	}
}
