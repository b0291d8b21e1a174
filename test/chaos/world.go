package chaos

import (
	"fmt"
	"hash/fnv"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// world is the outside: it answers as the address asks, and writes down every call.
type world struct {
	*httptest.Server
	mu    sync.Mutex
	calls map[string][]time.Time  // arrivals, by idempotency key
	hook  func(key string, n int) // told of each arrival
}

func newWorld(tb testing.TB) *world {
	tb.Helper()
	w := &world{calls: map[string][]time.Time{}}
	w.Server = httptest.NewServer(http.HandlerFunc(w.answer))
	tb.Cleanup(func() {
		w.CloseClientConnections()
		w.Close()
	})
	return w
}

// answer: /ok at once, /slow within a second, /flaky not the first time, /bad never, /hang not while anybody waits.
func (w *world) answer(rw http.ResponseWriter, r *http.Request) {
	key := r.Header.Get("Idempotency-Key")
	// Only behind the whole body does the server notice that the client has gone.
	_, _ = io.Copy(io.Discard, r.Body)
	w.mu.Lock()
	w.calls[key] = append(w.calls[key], time.Now())
	n, hook := len(w.calls[key]), w.hook
	w.mu.Unlock()
	if hook != nil {
		hook(key, n)
	}
	rw.Header().Set("Content-Type", "application/json")
	switch behaviour, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/"); behaviour {
	case "slow":
		h := fnv.New32a()
		_, _ = h.Write([]byte(key)) // a hash never fails
		if !wait(r, time.Duration(h.Sum32()%800)*time.Millisecond) {
			return
		}
	case "flaky":
		if n == 1 {
			rw.WriteHeader(http.StatusServiceUnavailable)
			return
		}
	case "bad":
		rw.WriteHeader(http.StatusInternalServerError)
		return
	case "hang":
		wait(r, time.Minute)
		return
	}
	_, _ = fmt.Fprintf(rw, `{"key":%q}`, key) // the client may have gone
}

// wait is false when the client has gone meanwhile.
func wait(r *http.Request, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

// arrivals are the calls made under a key.
func (w *world) arrivals(key string) []time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]time.Time(nil), w.calls[key]...)
}

// total is how many calls were made.
func (w *world) total() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, c := range w.calls {
		n += len(c)
	}
	return n
}
