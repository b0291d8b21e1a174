package platform

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Client talks to a platform over HTTP, always to the process that runs at that moment.
type Client struct {
	platform *Platform
	key      string
}

// As is a client with an API key; "" for none.
func (p *Platform) As(key string) Client { return Client{platform: p, key: key} }

// Key is the client's API key.
func (c Client) Key() string { return c.key }

// callPatience bounds one call.
const callPatience = 60 * time.Second

var web = &http.Client{
	Timeout: callPatience,
	Transport: &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		MaxIdleConns:        512,
		MaxIdleConnsPerHost: 512,
	},
}

// Answer is what came back.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Try makes a request that may fail: the platform may be down. Headers are name, value, name, value, …
func (c Client) Try(tb testing.TB, method, path string, body any, headers ...string) (Answer, error) {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), method, c.platform.Ready().URL+path, reader(tb, body))
	require.NoError(tb, err)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.key != "" {
		req.Header.Set("X-API-Key", c.key)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := web.Do(req)
	if err != nil {
		return Answer{}, err
	}
	got, err := io.ReadAll(resp.Body)
	if closeErr := resp.Body.Close(); err == nil {
		err = closeErr
	}
	a := Answer{resp.StatusCode, resp.Header, bytes.TrimSpace(got)}
	if err == nil {
		c.platform.hold(tb, req, a)
	}
	return a, err
}

// Call makes a request that is answered.
func (c Client) Call(tb testing.TB, method, path string, body any, headers ...string) Answer {
	tb.Helper()
	a, err := c.Try(tb, method, path, body, headers...)
	require.NoError(tb, err, "%s %s", method, path)
	return a
}

// Get reads a path, which must be there.
func (c Client) Get(tb testing.TB, path string) Answer {
	tb.Helper()
	a := c.Call(tb, http.MethodGet, path, nil)
	require.Equal(tb, http.StatusOK, a.Status, "GET %s: %.2000s", path, a.Body)
	return a
}

// reader makes a body of bytes or text as they are, and of anything else as JSON.
func reader(tb testing.TB, body any) io.Reader {
	tb.Helper()
	switch body := body.(type) {
	case nil:
		return http.NoBody
	case string:
		return strings.NewReader(body)
	case []byte:
		return bytes.NewReader(body)
	default:
		raw, err := json.Marshal(body)
		require.NoError(tb, err)
		return bytes.NewReader(raw)
	}
}

// Decode reads the body, which must be JSON.
func (a Answer) Decode(tb testing.TB, into any) {
	tb.Helper()
	require.NoError(tb, json.Unmarshal(a.Body, into), "status %d, body: %.2000s", a.Status, a.Body)
}

// JSON is the body as an object.
func (a Answer) JSON(tb testing.TB) map[string]any {
	tb.Helper()
	var v map[string]any
	a.Decode(tb, &v)
	return v
}

// Execution is an execution as the API shows it.
type Execution struct {
	ID         string         `json:"id"`
	TenantID   string         `json:"tenant_id"`
	Status     string         `json:"status"`
	FinalState map[string]any `json:"final_state"`
	Error      *struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Node    string `json:"node"`
	} `json:"error"`
	TokensUsed int64       `json:"tokens_used"`
	Cost       json.Number `json:"cost"`
	NodesRun   int         `json:"nodes_run"`
}

// Event is one event of an execution.
type Event struct {
	Sequence uint64         `json:"sequence"`
	Index    int            `json:"index"`
	Type     string         `json:"type"`
	Data     map[string]any `json:"data"`
}

// Submit starts an execution without waiting for it, and returns its id once it is accepted.
func (c Client) Submit(tb testing.TB, body any, headers ...string) string {
	tb.Helper()
	a := c.Call(tb, http.MethodPost, "/workflows/execute", body, append([]string{"Prefer", "respond-async"}, headers...)...)
	require.Equal(tb, http.StatusAccepted, a.Status, "%.2000s", a.Body)
	id, _ := a.JSON(tb)["execution_id"].(string)
	require.NotEmpty(tb, id)
	require.Equal(tb, "/executions/"+id, a.Header.Get("Location"))
	return id
}

// Execution reads an execution.
func (c Client) Execution(tb testing.TB, id string) Execution {
	tb.Helper()
	var e Execution
	c.Get(tb, "/executions/"+id).Decode(tb, &e)
	return e
}

// Events reads the events of an execution.
func (c Client) Events(tb testing.TB, id string) []Event {
	tb.Helper()
	var list struct {
		Events []Event `json:"events"`
	}
	c.Get(tb, "/executions/"+id+"/events").Decode(tb, &list)
	return list.Events
}

// Terminal tells whether an event ends its execution.
func (e Event) Terminal() bool {
	switch e.Type {
	case "completed.v1", "failed.v1", "timed_out.v1", "cancelled.v1":
		return true
	}
	return false
}

// AwaitEnd waits until an execution has ended.
func (c Client) AwaitEnd(tb testing.TB, id string) Execution {
	tb.Helper()
	var e Execution
	Await(tb, "the end of "+id, func() bool {
		e = c.Execution(tb, id)
		return e.Status != "PENDING" && e.Status != "RUNNING"
	})
	return e
}

// Await asks again and again until the answer is yes. It asks on the test's goroutine, so that asking may fail the test.
func Await(tb testing.TB, what string, yes func() bool) {
	tb.Helper()
	deadline := time.NewTimer(callPatience)
	defer deadline.Stop()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !yes() {
		select {
		case <-ticker.C:
		case <-deadline.C:
			tb.Fatalf("waited %v in vain for %s", callPatience, what)
		}
	}
}
