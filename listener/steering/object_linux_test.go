package steering

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
)

// select_bpf.o is what select.bpf.c compiles to, by the command that go generate
// runs. Another version of clang would give other instructions, so it is named.
func TestObjectIsUpToDate(t *testing.T) {
	source, err := os.ReadFile("program_linux.go")
	if err != nil {
		t.Fatal(err)
	}
	_, command, found := strings.Cut(string(source), "//go:generate clang-14 ")
	if !found {
		t.Fatal("no go:generate line for clang-14")
	}
	command, _, _ = strings.Cut(command, "\n")
	built := filepath.Join(t.TempDir(), "built.o")
	command = strings.Replace(command, "-o select_bpf.o", "-o "+built, 1)
	if _, err := exec.LookPath("clang-14"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip("needs clang-14 and libbpf-dev: ", err)
	}
	if out, err := exec.CommandContext(t.Context(), "clang-14", strings.Fields(command)...).CombinedOutput(); err != nil {
		t.Fatalf("clang-14: %v\n%s", err, out)
	}
	fresh, err := ebpf.LoadCollectionSpec(built)
	if err != nil {
		t.Fatal(err)
	}
	committed, err := spec()
	if err != nil {
		t.Fatal(err)
	}
	instructions := func(s *ebpf.CollectionSpec) string {
		return fmt.Sprint(s.Programs[nameProgram].Instructions)
	}
	if instructions(fresh) != instructions(committed) {
		t.Error("the program differs from its source: run go generate")
	}
	for name, m := range fresh.Maps {
		c := committed.Maps[name]
		if c == nil || m.Type != c.Type || m.KeySize != c.KeySize || m.ValueSize != c.ValueSize || m.MaxEntries != c.MaxEntries ||
			m.Flags != c.Flags || !reflect.DeepEqual(m.Contents, c.Contents) {
			t.Errorf("map %s is %v, from the source %v: run go generate", name, c, m)
		}
	}
}
