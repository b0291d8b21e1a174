package source

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mccutchen/go-httpbin/v2/httpbin"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/agentflow/agentflow/pkg/local/localtest"
	"github.com/agentflow/agentflow/pkg/workflow"
)

func TestMain(m *testing.M) { localtest.VerifyTestMain(m) }

// patience bounds every wait for something that is to happen soon.
const patience = time.Minute

// loopback lets tests reach the servers they start.
const loopback = "127.0.0.0/8,::1"

// bench is a Sources with an environment and a log of its own.
type bench struct {
	*Sources
	env  map[string]string
	logs *syncBuffer
}

// syncBuffer is a log that may be read while it is written.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func newBench(tb testing.TB, env map[string]string, adjust ...func(*Config)) *bench {
	tb.Helper()
	logs := &syncBuffer{}
	core := zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(logs), zap.DebugLevel)
	cfg := Config{
		LookupEnv:   func(name string) (string, bool) { v, ok := env[name]; return v, ok },
		EgressAllow: loopback,
		Logger:      zap.New(core),
	}
	for _, f := range adjust {
		f(&cfg)
	}
	s, err := New(cfg)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, s.Close()) })
	return &bench{Sources: s, env: env, logs: logs}
}

func caller() Caller {
	return Caller{Tenant: "acme", Execution: "exec_1", Node: "step", IdempotencyKey: "exec_1/step/0"}
}

func apiSource(base string, config ...any) workflow.Source {
	return makeSource("api", append([]any{"base_url", base}, config...)...)
}

// makeSource builds a source from keys and values.
func makeSource(kind string, pairs ...any) workflow.Source {
	config := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		config[pairs[i].(string)] = pairs[i+1]
	}
	return workflow.Source{ID: "the_source", Kind: kind, Config: config}
}

func startHTTPBin(tb testing.TB) string {
	tb.Helper()
	server := httptest.NewServer(httpbin.New(httpbin.WithMaxBodySize(16 << 20)))
	tb.Cleanup(server.Close)
	return server.URL
}

func startServer(tb testing.TB, handler http.HandlerFunc) string {
	tb.Helper()
	server := httptest.NewServer(handler)
	tb.Cleanup(server.Close)
	return server.URL
}

// at reads a path of a JSON value: at(v, "headers", "Host", 0).
func at(tb testing.TB, v any, path ...any) any {
	tb.Helper()
	for _, step := range path {
		switch step := step.(type) {
		case string:
			m, ok := v.(map[string]any)
			require.True(tb, ok, "%v is no object at %v", v, step)
			v = m[step]
		case int:
			list, ok := v.([]any)
			require.True(tb, ok, "%v is no list at %v", v, step)
			require.Less(tb, step, len(list))
			v = list[step]
		}
	}
	return v
}

func requireClass(tb testing.TB, want Class, err error) {
	tb.Helper()
	_ = classified(tb, want, err)
}

// classified is requireClass for a test that has more questions.
func classified(tb testing.TB, want Class, err error) *Error {
	tb.Helper()
	require.Error(tb, err)
	var e *Error
	require.ErrorAs(tb, err, &e, "%v", err)
	require.Equal(tb, want, e.Class, "%v", err)
	require.Equal(tb, "the_source", e.Source)
	return e
}

// objects is an object store in memory.
type objects struct {
	mu   sync.Mutex
	kept map[string][]byte
}

func (o *objects) Put(_ context.Context, tenant string, data []byte, mime string) (string, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.kept == nil {
		o.kept = map[string][]byte{}
	}
	ref := fmt.Sprintf("obj:%s/%d/%s", tenant, len(o.kept), mime)
	o.kept[ref] = bytes.Clone(data)
	return ref, nil
}

func toJSON(tb testing.TB, v any) string {
	tb.Helper()
	raw, err := json.Marshal(v)
	require.NoError(tb, err)
	return string(raw)
}

func writeJSON(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprint(w, body)
}

func values(pairs ...any) workflow.Values {
	v := workflow.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v[pairs[i].(string)] = pairs[i+1]
	}
	return v
}

func TestErrorsAnswerQuestions(t *testing.T) {
	err := fmt.Errorf("node x: %w", &Error{Class: ClassAuth, Code: "invalid_api_key", Source: "crm", Message: "refused", Excerpt: "no"})
	require.ErrorIs(t, err, &Error{Class: ClassAuth})
	require.ErrorIs(t, err, &Error{Class: ClassAuth, Code: "invalid_api_key"})
	require.NotErrorIs(t, err, &Error{Class: ClassAuth, Code: "other"})
	require.NotErrorIs(t, err, &Error{Class: Class5xx})
	require.Equal(t, ClassAuth, ClassOf(err))
	require.Empty(t, ClassOf(context.Canceled))
	require.EqualError(t, err, "node x: source crm: refused (no)")
	for class, want := range map[Class]bool{
		ClassTimeout: true, ClassNetwork: true, Class5xx: true, Class429: true, ClassRefused: true,
		ClassAuth: false, ClassInvalid: false, Class4xx: false, ClassContext: false, ClassSafety: false, ClassEmpty: false,
		ClassFormat: false, ClassEgress: false, ClassSecret: false, ClassTooLarge: false, ClassCanceled: false,
	} {
		require.Equal(t, want, (&Error{Class: class}).Retryable(), class)
	}
	require.False(t, (&Error{Class: Class429, Code: "insufficient_quota"}).Retryable())
}

func TestExcerptIsBoundedAndOnARuneBoundary(t *testing.T) {
	long := excerpt("a\n\tb " + strings.Repeat("é", 2000))
	require.LessOrEqual(t, len(long), maxExcerpt+len("…"))
	require.True(t, strings.HasPrefix(long, "a b é"))
	require.True(t, strings.HasSuffix(long, "é…"), "cut between runes")
}

func TestConfigReadsEveryKindOfNumber(t *testing.T) {
	c := config{"a": json.Number("1.5"), "b": "2", "c": 3, "d": 4.25, "e": int64(5), "f": "x", "g": true, "h": json.Number("30.0")}
	for key, want := range map[string]string{"a": "1.5", "b": "2", "c": "3", "d": "4.25", "e": "5", "f": "", "g": "", "none": ""} {
		require.Equal(t, json.Number(want), c.number(key), key)
	}
	n, ok := c.integer("h")
	require.True(t, ok)
	require.Equal(t, 30, n)
	_, ok = c.integer("a")
	require.False(t, ok)
}
