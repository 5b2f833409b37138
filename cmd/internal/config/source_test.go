package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A Source is read again and again; flags and variables go on winning over the file.
func TestSourceAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sluice.toml")
	s := sourceOf(t, Environment{"SLUICE_MODE": "goroutine"}, "-c", path, "--acceptors", "9")
	for _, text := range []string{smallFile, strings.ReplaceAll(smallFile, ":8080", ":8081")} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		c, digest, err := s.Read()
		if err != nil || digest != sha(text) || s.Again() != nil {
			t.Fatalf("digest %q, %v, %v", digest, err, s.Again())
		}
		if c.Acceptors.Count != 9 || c.Acceptors.Mode != ModeGoroutine || !strings.Contains(text, c.Listeners[0].Bind) {
			t.Errorf("read as %+v", c)
		}
	}
	if err := os.WriteFile(path, []byte("x = 1\n"+smallFile), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, digest, err := s.Read(); err == nil || digest != sha("x = 1\n"+smallFile) {
		t.Errorf("a faulty file: digest %q, %v", digest, err)
	}
}

func TestSourceOfFlags(t *testing.T) {
	s := sourceOf(t, nil, "--listen", ":1", "--backend", "a:1")
	if _, digest, err := s.Read(); err != nil || digest != "" {
		t.Errorf("digest %q, %v", digest, err)
	}
	if err := s.Again(); err == nil || !strings.Contains(err.Error(), "flags and variables alone") {
		t.Errorf("a second time: %v", err)
	}
	_, err := fromArgs(t, nil, "--listen", ":1", "--backend", "a:1", "--reload-watch")
	const want = "--reload-watch: there is nothing to watch: the configuration came from flags and variables alone, which do not change while it runs"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// Where a sluice can be asked is known even if its file has faults elsewhere, or the
// other flags are not.
func TestSourceAdmin(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sluice.toml")
	for _, test := range []struct {
		name string
		text string // "" = no file
		vars Environment
		args []string
		want Admin
		err  string
	}{
		{"default", "", nil, nil, Admin{Listen: "127.0.0.1:9095", Socket: SocketAuto, Metrics: MetricsFull, AddressSeries: 256, Ready: ReadyListening}, ""},
		{"flag", "", Environment{"SLUICE_ADMIN": ":2"}, []string{"--admin", ":1"}, Admin{Listen: ":1", Socket: SocketAuto, Metrics: MetricsFull, AddressSeries: 256, Ready: ReadyListening}, ""},
		{"variable", "", Environment{"SLUICE_ADMIN": "", "SLUICE_ADMIN_SOCKET": "/a"}, nil, Admin{Listen: "", Socket: "/a", Metrics: MetricsFull, AddressSeries: 256, Ready: ReadyListening}, ""},
		{"file", "admin.socket = \"/a\"\nnonsense = 1", nil, nil, Admin{Listen: "127.0.0.1:9095", Socket: "/a", Metrics: MetricsFull, AddressSeries: 256, Ready: ReadyListening}, ""},
		{"over the file", "admin.socket = \"/a\"", nil, []string{"--admin-socket", "/b"}, Admin{Listen: "127.0.0.1:9095", Socket: "/b", Metrics: MetricsFull, AddressSeries: 256, Ready: ReadyListening}, ""},
		{"fault", "admin.socket = \"a\"\nnonsense = 1", nil, nil, Admin{},
			path + `:1:7: admin.socket: must be "auto", an absolute path of at most 107 bytes, or ""; got "a"`},
		{"misspelt", "admin.sokcet = \"/a\"", nil, nil, Admin{}, path + `:1:7: admin.sokcet: unknown key, did you mean "socket"?`},
		{"no table", "admin = 1", nil, nil, Admin{}, path + `:1:1: admin: must be a table, written [admin]; got 1`},
		{"flag fault", "admin.socket = \"/a\"", nil, []string{"--admin", "x"}, Admin{},
			`--admin: must be IP:PORT or :PORT, such as "127.0.0.1:8080", "[::1]:8080" or ":8080", or ""; got "x"`},
	} {
		args := test.args
		if test.text != "" {
			if err := os.WriteFile(path, []byte(test.text), 0o644); err != nil {
				t.Fatal(err)
			}
			args = append(args, "-c", path)
		}
		got, err := sourceOf(t, test.vars, args...).Admin()
		if said := ""; got != test.want || (err != nil) != (test.err != "") || err != nil && err.Error() != test.err {
			if err != nil {
				said = err.Error()
			}
			t.Errorf("%s: %+v, %q; want %+v, %q", test.name, got, said, test.want, test.err)
		}
	}
}

func TestSocketPath(t *testing.T) {
	owned := func(dir string, uid int) bool { return dir == "/run/sluice" && uid == 7 }
	for _, test := range []struct {
		admin Admin
		uid   int
		xdg   string
		want  string
	}{
		{Admin{Listen: "127.0.0.1:9095", Socket: SocketAuto}, 0, "/run/user/0", "/run/sluice/127.0.0.1:9095.sock"},
		{Admin{Listen: ":9095", Socket: SocketAuto}, 7, "/run/user/7", "/run/sluice/:9095.sock"},
		{Admin{Listen: "[::1]:9095", Socket: SocketAuto}, 8, "/run/user/8", "/run/user/8/sluice/[::1]:9095.sock"},
		{Admin{Listen: ":9095", Socket: SocketAuto}, 8, "", ""},
		{Admin{Listen: ":9095", Socket: SocketAuto}, 8, "run", ""},
		{Admin{Listen: ":9095", Socket: SocketAuto}, 8, "/" + strings.Repeat("x", 100), ""},
		{Admin{Listen: ":0", Socket: SocketAuto}, 0, "", ""},
		{Admin{Listen: "", Socket: SocketAuto}, 0, "", ""},
		{Admin{Listen: "", Socket: "/run/a.sock"}, 8, "", "/run/a.sock"},
		{Admin{Listen: ":9095", Socket: ""}, 0, "", ""},
	} {
		if got := test.admin.socketPath(test.uid, test.xdg, owned); got != test.want {
			t.Errorf("%+v, user %d, %q: %q, want %q", test.admin, test.uid, test.xdg, got, test.want)
		}
	}
	dir := t.TempDir()
	if !ownedBy(dir, os.Geteuid()) || ownedBy(dir, os.Geteuid()+1) || ownedBy(dir+"/none", os.Geteuid()) {
		t.Error("ownedBy does not tell whose a directory is")
	}
}
