package admin

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
)

// The page is plain HTML, CSS and JavaScript, as it stands in page/: nothing is built, and
// a browser asks no other server.
//
//go:embed page
var pageFiles embed.FS

// edition tells one page from that of another sluice.
var edition = func() string {
	sum := sha256.New()
	_ = fs.WalkDir(pageFiles, "page", func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			text, _ := pageFiles.ReadFile(name) // embedded: it is there
			sum.Write(text)
		}
		return err
	})
	return hex.EncodeToString(sum.Sum(nil)[:6])
}()

// pagePolicy lets the page load its own files and ask its own server, and nothing else; no
// other page may show it.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// servePage answers with a file of the page. A browser keeps it, and asks each time whether
// it is still the same.
func servePage(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/page/")
	if r.URL.Path == "/" {
		name = "index.html"
	}
	text, err := pageFiles.ReadFile("page/" + name)
	if err != nil {
		say(w, http.StatusNotFound, "there is no such file")
		return
	}
	h := w.Header()
	h.Set("Content-Type", mime.TypeByExtension(path.Ext(name)))
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", `"`+edition+`"`)
	if r.Header.Get("If-None-Match") == `"`+edition+`"` {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	_, _ = w.Write(text) // fails only when the reader has gone
}

// wantsPage tells people with a browser from those with a terminal.
func wantsPage(r *http.Request) bool { return strings.Contains(r.Header.Get("Accept"), "text/html") }
