package source

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentflow/agentflow/services/executor/internal/egress"
)

const smallAnswer = `{"id": 7, "name": "Ann", "tags": ["a", "b"]}`

// BenchmarkHTTPCall is an api call through the adapter; BenchmarkHTTPPlain is the same by hand.
// The adapter may add 250 µs.
func BenchmarkHTTPCall(b *testing.B) {
	base := startServer(b, func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, 200, smallAnswer) })
	s := newBench(b, nil, func(c *Config) { c.Logger = nil })
	src := apiSource(base)
	req := HTTPRequest{
		Method: "POST", Endpoint: "/items/{id}", Body: map[string]any{"q": "{text}"},
		Values: values("id", json.Number("7"), "text", "hello"),
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Call(b.Context(), caller(), src, req); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkHTTPPlain(b *testing.B) {
	base := startServer(b, func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, 200, smallAnswer) })
	guard, err := egress.New(loopback)
	if err != nil {
		b.Fatal(err)
	}
	client := &http.Client{Transport: guard.Transport()}
	defer client.CloseIdleConnections()
	b.ReportAllocs()
	for b.Loop() {
		req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, base+"/items/7", strings.NewReader(`{"q":"hello"}`))
		if err != nil {
			b.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		var v any
		if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
			b.Fatal(err)
		}
		_ = resp.Body.Close()
	}
}

// BenchmarkHTTPConcurrent is a thousand calls at once of an API that takes 100 ms: they must
// finish in 300.
func BenchmarkHTTPConcurrent(b *testing.B) {
	const calls = 1000
	base := startServer(b, func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(100 * time.Millisecond):
		case <-r.Context().Done():
		}
		writeJSON(w, 200, smallAnswer)
	})
	s := newBench(b, nil, func(c *Config) { c.Logger = nil })
	src := apiSource(base)
	for b.Loop() {
		var wg sync.WaitGroup
		for range calls {
			wg.Go(func() {
				if _, err := s.Call(b.Context(), caller(), src, HTTPRequest{}); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
	}
}
