//go:build !race

// The race detector empties sync.Pools at random, so that there is nothing to measure under it.

package source

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// rowsJSON is an answer as APIs give them: a list of objects of some 400 bytes. (Much smaller ones
// weigh more than three times their text, because a Go map does.)
func rowsJSON(size int) string {
	var b strings.Builder
	b.WriteString(`{"items":[`)
	for i := 0; b.Len() < size; i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"id": %d, "title": "customer number %d cannot log in", "state": "open", "created_at": "2025-01-31T12:00:00Z", `+
			`"author": "customer%d@example.com", "url": "https://tickets.example.com/api/v2/tickets/%d", "score": %d.5, `+
			`"body": "a paragraph of text about what this customer saw, as long as such paragraphs usually are when somebody describes a problem with a system"}`, i, i, i, i, i)
	}
	b.WriteString(`]}`)
	return b.String()
}

// adapterBytes measures what an adapter allocates for one answer, beyond what net/http itself
// needs for it: the same call by a plain client that reads the body into a buffer it has.
func adapterBytes(t *testing.T, contentType, body, mode string) int64 {
	t.Helper()
	base := startServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = io.WriteString(w, body)
	})
	s := newBench(t, nil, func(c *Config) { c.Logger = nil })
	src := apiSource(base)
	ours := testing.Benchmark(func(b *testing.B) {
		b.Helper()
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.Call(t.Context(), caller(), src, HTTPRequest{Response: mode}); err != nil {
				b.Fatal(err)
			}
		}
	})
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	scratch := bytes.NewBuffer(make([]byte, 0, len(body)+bytes.MinRead))
	plain := testing.Benchmark(func(b *testing.B) {
		b.Helper()
		b.ReportAllocs()
		for b.Loop() {
			resp, err := client.Get(base)
			if err != nil {
				b.Fatal(err)
			}
			scratch.Reset()
			if _, err := scratch.ReadFrom(resp.Body); err != nil {
				b.Fatal(err)
			}
			_ = resp.Body.Close()
		}
	})
	return ours.AllocedBytesPerOp() - plain.AllocedBytesPerOp()
}

func TestAdaptersAllocateAtMostThreeTimesTheAnswer(t *testing.T) {
	if testing.Short() {
		t.Skip("measures for a second per case")
	}
	const size = 1 << 20
	for name, test := range map[string]struct{ contentType, body, mode string }{
		"JSON":   {"application/json", rowsJSON(size), ""},
		"text":   {"text/plain", strings.Repeat("a line of text\n", size/15), ""},
		"binary": {"application/octet-stream", strings.Repeat("\x00\xff\x01", size/3), ""},
	} {
		got := adapterBytes(t, test.contentType, test.body, test.mode)
		t.Logf("%s: %.2f times the answer", name, float64(got)/float64(len(test.body)))
		require.LessOrEqual(t, got, int64(3*len(test.body)), name)
	}
}
