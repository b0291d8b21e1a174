// Package sentrytest is a server that takes error reports the way Sentry does, for tests of what is reported.
package sentrytest

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Event is a report as it arrives.
type Event = map[string]any

// Inbox collects what is reported to it.
type Inbox struct {
	*httptest.Server
	mu     sync.Mutex
	events []Event
	raw    strings.Builder
}

// New opens an inbox that closes with the test.
func New(tb testing.TB) *Inbox {
	tb.Helper()
	in := &Inbox{}
	in.Server = httptest.NewServer(http.HandlerFunc(in.receive))
	tb.Cleanup(in.Close)
	return in
}

// DSN is where to report to.
func (in *Inbox) DSN() string {
	return strings.Replace(in.URL, "http://", "http://publickey@", 1) + "/42"
}

// Events are the reports that have arrived.
func (in *Inbox) Events() []Event {
	in.mu.Lock()
	defer in.mu.Unlock()
	return slices.Clone(in.events)
}

// Raw is every byte that has arrived, unpacked.
func (in *Inbox) Raw() string {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.raw.String()
}

// receive reads an envelope: a line of headers, then items, each a line of headers and a payload.
func (in *Inbox) receive(w http.ResponseWriter, r *http.Request) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		unzipped, err := gzip.NewReader(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = unzipped
	}
	data, err := io.ReadAll(body)
	if err != nil || r.URL.Path != "/api/42/envelope/" || !strings.Contains(r.Header.Get("X-Sentry-Auth"), "sentry_key=publickey") {
		http.Error(w, "not an envelope for this project", http.StatusBadRequest)
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.raw.Write(data)
	lines := bufio.NewReader(bytes.NewReader(data))
	if _, err := lines.ReadBytes('\n'); err != nil {
		http.Error(w, "no envelope header", http.StatusBadRequest)
		return
	}
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var header struct {
			Type   string `json:"type"`
			Length int    `json:"length"`
		}
		if err := json.Unmarshal(line, &header); err != nil {
			http.Error(w, "bad item header", http.StatusBadRequest)
			return
		}
		payload := make([]byte, header.Length)
		if _, err := io.ReadFull(lines, payload); err != nil {
			http.Error(w, "short item", http.StatusBadRequest)
			return
		}
		_, _ = lines.ReadByte() // the line feed behind an item; the last may have none
		if header.Type != "event" {
			continue
		}
		var event Event
		if err := json.Unmarshal(payload, &event); err != nil {
			http.Error(w, "bad event", http.StatusBadRequest)
			return
		}
		in.events = append(in.events, event)
	}
}
