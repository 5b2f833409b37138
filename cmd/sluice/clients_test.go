package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"testing"

	"sluice/cmd/internal/browser"
)

// startTLSNginx is an nginx that has a server for each site. It takes PROXY headers, and
// answers with the name that was asked for and the client that the header names.
func startTLSNginx(t *testing.T, sites ...*site) {
	t.Helper()
	nginx := need(t, "nginx", "nginx")
	dir, servers := t.TempDir(), ""
	for _, s := range sites {
		s.addr = local(freePort(t))
		key, err := x509.MarshalPKCS8PrivateKey(s.key.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, s.cert.Subject.CommonName)
		write(t, name+".key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
		servers += fmt.Sprintf("server { listen %s ssl proxy_protocol; ssl_certificate %s; ssl_certificate_key %s.key; default_type text/plain; return 200 \"%s $ssl_server_name $proxy_protocol_addr\"; }\n",
			s.addr, s.pem(t), name, s.cert.Subject.CommonName)
	}
	config := filepath.Join(dir, "nginx.conf")
	write(t, config, fmt.Sprintf(`
daemon off; master_process off; pid %[1]s/pid; error_log stderr;
events { worker_connections 100; }
http { access_log off; keepalive_timeout 0; client_body_temp_path %[1]s/a; proxy_temp_path %[1]s/b; fastcgi_temp_path %[1]s/c; uwsgi_temp_path %[1]s/d; scgi_temp_path %[1]s/e;
%s}`, dir, servers))
	server(t, exec.Command(nginx, "-c", config, "-p", dir, "-e", "stderr"))
	awaitServer(t, sites[0].addr)
}

// curl, with and without a PROXY header, and Chromium come to the nginx that they name.
func TestRoutesOfClients(t *testing.T) {
	curl := need(t, "curl", "curl")
	a, b := newSite(t, "a.localhost"), newSite(t, "b.localhost")
	startTLSNginx(t, a, b)
	tab := browser.Open(t)
	tab.TrustAll()
	file := `
acceptors.count = 2
limits.drain_timeout = "1s" # Chromium keeps connections open
[listener.main]
bind = "127.0.0.1:0"
pool = "a"
proxy_protocol = "optional"
proxy_protocol_from = ["127.0.0.0/8"]
`
	for name, s := range map[string]*site{"a": a, "b": b} {
		file += fmt.Sprintf("[listener.main.route.%s]\nsni = [\"%s.localhost\"]\npool = %q\n", name, name, name) +
			fmt.Sprintf("[pool.%s]\nbackends = [%q]\nsend_proxy = \"v2\"\n", name, s.addr)
	}
	modes(t, func(t *testing.T, mode string) {
		tab := tab.In(t)
		s := sluice(t, mode, "-c", configFile(t, file))
		host, port, _ := net.SplitHostPort(s.addr())
		for _, site := range []*site{a, b} {
			name := site.cert.Subject.CommonName
			for _, args := range [][]string{nil, {"--haproxy-protocol"}} {
				out := finish(t, clientWithin, curl, append([]string{"-sS", "--interface", "127.0.0.9", "--cacert", site.pem(t),
					"--resolve", name + ":" + port + ":" + host, "https://" + name + ":" + port + "/"}, args...)...)
				if want := name + " " + name + " 127.0.0.9"; out != want {
					t.Errorf("curl %v %s: %q, want %q", args, name, out, want)
				}
			}
			tab.Go("https://" + name + ":" + port + "/")
			if got, want := browser.Eval[string](tab, `document.body.innerText`), name+" "+name+" 127.0.0.1"; got != want {
				t.Errorf("Chromium %s: %q, want %q", name, got, want)
			}
		}
		tab.Go("about:blank")
		for _, route := range []string{"a", "b"} {
			if n := s.metric("sluice_listener_routed_connections_total", `route="`+route+`"`); n < 3 {
				t.Errorf("%.0f sessions took route %s, at least 3 expected", n, route)
			}
		}
	})
}
