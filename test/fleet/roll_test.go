package fleet_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/test/fleet"
	"github.com/agentflow/agentflow/test/platform"
)

// calling is a workflow with one call outside that takes so long.
func calling(t *testing.T, delay time.Duration) object {
	t.Helper()
	outside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			return
		}
		_, _ = w.Write([]byte(`{"ok":true}`))
	}))
	t.Cleanup(outside.Close)
	return object{
		"start_node": "call",
		"nodes":      []any{object{"id": "call", "type": "api", "metadata": object{"source_id": "out", "endpoint": "/"}}},
		"sources":    []any{object{"id": "out", "kind": "api", "config": object{"base_url": outside.URL}}},
	}
}

// TestRoll restarts every service, one process after another, and takes the schema down and up by one migration, under a
// load that waits for its answers: no request fails, and nothing accepted is lost. The short form restarts one of each.
//
// AGENTFLOW_TEST_BINARIES_BEFORE names a folder with the binaries of another release. Then the fleet runs those, and is
// rolled onto the ones of the work tree: old and new work side by side, on the schema of either.
func TestRoll(t *testing.T) {
	rate, each := 50, 1
	if long {
		rate, each = 200, 2
	}
	f := shared(t)
	now := map[*fleet.Process]string{}
	if before := os.Getenv("AGENTFLOW_TEST_BINARIES_BEFORE"); before != "" {
		for _, p := range f.Services() {
			service, _, _ := strings.Cut(p.Name, "-")
			now[p] = p.Use(filepath.Join(before, service))
			require.NoError(t, p.Restart(t.Context()))
		}
	}
	load, err := f.StartLoad(t.Context(), fleet.Work{
		PerSecond: rate, Body: object{"workflow": calling(t, 100*time.Millisecond)}, Async: 10,
	})
	require.NoError(t, err)
	warm := func() {
		begun := load.Sent()
		platform.Await(t, "some load", func() bool { return load.Sent() > begun+rate/2 })
	}
	warm()
	for _, group := range [][]*fleet.Process{f.Gateways, f.Executors, f.Limiters, f.Catalogs} {
		for _, p := range group[:each] {
			if binary := now[p]; binary != "" {
				p.Use(binary)
			}
			require.NoError(t, p.Restart(t.Context()))
			warm()
		}
	}
	if long {
		migrate(t, f, "down", "--steps", "1")
		warm()
		migrate(t, f, "up")
		warm()
	}
	r := load.Stop()
	t.Logf("%d requests, the slowest took %v", r.Sent, r.Slowest)
	require.Empty(t, r.Failures)
	require.Len(t, r.Accepted, r.Sent)
	f.RequireKept(t, r)
	f.RequireNoViolations(t)
}

// migrate changes the schema, as the migrate job does.
func migrate(t *testing.T, f *fleet.Fleet, args ...string) {
	t.Helper()
	binary, err := fleet.Build("./cmd/agentflow")
	require.NoError(t, err)
	p := fleet.NewProcess(fleet.Command{
		Name: "migrate", Dir: t.TempDir(), Args: append([]string{binary, "migrate"}, args...), Env: []string{"DATABASE_URL=" + f.Postgres.URL()},
	})
	require.NoError(t, p.Run(t.Context()))
}
