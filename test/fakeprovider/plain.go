package fakeprovider

import (
	"io"
	"net/http"
	"strings"
)

// plain is any HTTP API: what it answers is up to the script.
type plain struct{}

func (plain) read(r *http.Request, into *Request) error {
	into.Wire, into.Key, into.Path = Plain, bearer(r), strings.TrimPrefix(into.Path, "/tools")
	return nil
}

func (plain) write(w http.ResponseWriter, _ Request, reply Reply) {
	status := max(reply.Status, http.StatusOK)
	if reply.JSON != nil {
		writeJSON(w, status, reply.JSON)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, reply.Text)
}

func (p plain) refuse(w http.ResponseWriter, status int, reply Reply) {
	if reply.JSON == nil {
		reply.JSON = map[string]any{"error": reply.Text}
	}
	reply.Status = status
	p.write(w, Request{}, reply)
}
