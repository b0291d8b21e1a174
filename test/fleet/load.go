package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Load sends requests at a steady rate, as a load balancer does: to gateways in turn, of which it knows from their
// health checks that they are ready. It tries nothing twice: a request that fails has failed.
type Load struct {
	fleet  *Fleet
	cancel context.CancelFunc
	done   sync.WaitGroup
	web    *http.Client

	ready atomic.Pointer[[]string]
	next  atomic.Uint64
	sent  atomic.Int64

	mu       sync.Mutex
	failures []string
	accepted []string
	slowest  time.Duration
}

// Work is what a load asks for.
type Work struct {
	PerSecond int
	Body      any // of POST /workflows/execute
	Async     int // every so many-th request is not waited for; 0: none
}

// StartLoad begins to send.
func (f *Fleet) StartLoad(ctx context.Context, w Work) (*Load, error) {
	body, err := json.Marshal(w.Body)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	l := &Load{fleet: f, cancel: cancel, web: &http.Client{
		Timeout: time.Minute,
		Transport: &http.Transport{
			DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, MaxIdleConns: 512, MaxIdleConnsPerHost: 512,
		},
	}}
	l.look(ctx)
	l.done.Go(func() { l.watch(ctx) })
	l.done.Go(func() { l.send(ctx, w, body) })
	return l, nil
}

// watch asks for the health of the gateways, often.
func (l *Load) watch(ctx context.Context) {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			l.look(ctx)
		case <-ctx.Done():
			return
		}
	}
}

func (l *Load) look(ctx context.Context) {
	var ready []string
	for _, g := range l.fleet.Gateways {
		if g.Ready(ctx) == nil {
			ready = append(ready, g.URL)
		}
	}
	l.ready.Store(&ready)
}

func (l *Load) send(ctx context.Context, w Work, body []byte) {
	ticker := time.NewTicker(time.Second / time.Duration(w.PerSecond))
	defer ticker.Stop()
	for n := 1; ; n++ {
		select {
		case <-ticker.C:
			async := w.Async > 0 && n%w.Async == 0
			l.done.Go(func() { l.one(context.WithoutCancel(ctx), body, async) }) // what was sent is waited for
		case <-ctx.Done():
			return
		}
	}
}

func (l *Load) one(ctx context.Context, body []byte, async bool) {
	l.sent.Add(1)
	began := time.Now()
	id, err := l.try(ctx, body, async)
	took := time.Since(began)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slowest = max(l.slowest, took)
	if err != nil {
		l.failures = append(l.failures, fmt.Sprintf("%s after %v: %v", began.Format("15:04:05.000"), took, err))
		return
	}
	l.accepted = append(l.accepted, id)
}

func (l *Load) try(ctx context.Context, body []byte, async bool) (id string, err error) {
	ready := *l.ready.Load()
	if len(ready) == 0 {
		return "", errors.New("no gateway is ready")
	}
	url := ready[l.next.Add(1)%uint64(len(ready))]
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/workflows/execute", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/json")
	want := http.StatusOK
	if async {
		request.Header.Set("Prefer", "respond-async")
		want = http.StatusAccepted
	}
	response, err := l.web.Do(request)
	if err != nil {
		return "", err
	}
	answer, err := io.ReadAll(response.Body)
	if closed := response.Body.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return "", err
	}
	var got struct {
		ID string `json:"execution_id"`
	}
	if response.StatusCode != want {
		return "", fmt.Errorf("%s from %s: %.300s", response.Status, url, answer)
	}
	return got.ID, json.Unmarshal(answer, &got)
}

// Result is what came of a load.
type Result struct {
	Sent     int
	Accepted []string // ids of executions
	Failures []string
	Slowest  time.Duration
}

// Stop sends no more, waits for every answer, and tells.
func (l *Load) Stop() Result {
	l.cancel()
	l.done.Wait()
	return Result{int(l.sent.Load()), l.accepted, l.failures, l.slowest}
}

// Answered is how many requests have been answered well so far.
func (l *Load) Answered() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.accepted)
}

// Sent is how many requests have been sent so far.
func (l *Load) Sent() int { return int(l.sent.Load()) }

// RequireKept holds that every execution that was accepted has ended well, and stands in the tables.
func (f *Fleet) RequireKept(tb testing.TB, r Result) {
	tb.Helper()
	p := f.Gateway(0)
	seen := make(map[string]bool, len(r.Accepted))
	for _, id := range r.Accepted {
		if id == "" || seen[id] {
			tb.Fatalf("execution %q was given out twice, or has no id", id)
		}
		seen[id] = true
	}
	// A page at a time: thousands of single requests would be a load of their own.
	waiting := slices.Clone(r.Accepted)
	deadline := time.Now().Add(startPatience)
	for len(waiting) > 0 {
		ended := map[string]string{}
		cursor := ""
		for {
			var page struct {
				Items []struct {
					ID     string `json:"id"`
					Status string `json:"status"`
				} `json:"items"`
				Next string `json:"next_cursor"`
			}
			path := "/executions?limit=100"
			if cursor != "" {
				path += "&cursor=" + cursor
			}
			p.Get(tb, path).Decode(tb, &page)
			for _, e := range page.Items {
				ended[e.ID] = e.Status
			}
			if cursor = page.Next; cursor == "" {
				break
			}
		}
		waiting = slices.DeleteFunc(waiting, func(id string) bool {
			switch ended[id] {
			case "COMPLETED":
				return true
			case "FAILED", "TIMED_OUT", "CANCELLED":
				tb.Fatalf("execution %s ended %s", id, ended[id])
			}
			return false
		})
		if time.Now().After(deadline) {
			tb.Fatalf("%d of %d accepted executions have not ended, such as %s", len(waiting), len(r.Accepted), waiting[0])
		}
	}
}
