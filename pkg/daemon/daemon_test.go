package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/leaktest"
)

func TestMain(m *testing.M) {
	if os.Getenv(actAsService) != "" {
		Main("testd", runTestService)
	}
	leaktest.VerifyTestMain(m)
}

// patience bounds every wait for something that is to happen soon.
const patience = 30 * time.Second

// quiet is a configuration that sends nothing anywhere.
func quiet() Common {
	return Common{
		LogLevel:          "debug",
		LogFormat:         "json",
		AdminAddr:         "127.0.0.1:0",
		ShutdownTimeout:   5 * time.Second,
		SentryEnvironment: "test",
	}
}

// start is a runtime that logs into the buffer and is closed with the test.
func start(t *testing.T, c Common) (*Runtime, *logs) {
	t.Helper()
	out := &logs{}
	rt, err := newRuntime("testd", c, out)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, rt.Close(ctx))
	})
	return rt, out
}

// logs collects what a runtime writes, from any goroutine.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// lines are the log lines, decoded.
func (l *logs) lines(t *testing.T) []map[string]any {
	t.Helper()
	var lines []map[string]any
	for line := range strings.Lines(l.String()) {
		var entry map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &entry), "log line %q", line)
		lines = append(lines, entry)
	}
	return lines
}

// find is the first log line with that message.
func (l *logs) find(t *testing.T, msg string) map[string]any {
	t.Helper()
	for _, line := range l.lines(t) {
		if line["msg"] == msg {
			return line
		}
	}
	require.FailNow(t, "no such log line", "%q in:\n%s", msg, l)
	return nil
}
