package e2e

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/local"
	"github.com/agentflow/agentflow/test/platform"
	"github.com/agentflow/agentflow/test/process"
)

// TestDatabase: 200 clients on a pool of five, while Postgres is killed and comes back. What was answered with 201 is
// there, what was not is 503 with Retry-After, executions go on meanwhile, and every connection comes back.
func TestDatabase(t *testing.T) {
	t.Parallel()
	server, err := local.StartPostgres(t.Context(), local.PostgresOptions{Dir: filepath.Join(t.TempDir(), "postgres")})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, server.Stop(ctx))
	})
	admin, err := process.FreeAddress(t.Context())
	require.NoError(t, err)
	p := platform.Start(t, platform.Options{Env: []string{
		"DATABASE_URL=" + server.URL(), "DB_POOL_SIZE=5", "DB_MAX_OVERFLOW=0", "LOG_LEVEL=error", "ADMIN_ADDR=" + admin,
	}})
	const clients = 200
	var (
		mu     sync.Mutex
		kept   []string
		away   int // 503
		during int // executions while Postgres was away
		wg     sync.WaitGroup
	)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	write := func(client, n int) {
		a, err := p.Try(t, http.MethodPost, "/workflows", object{"name": fmt.Sprintf("%d of %d", n, client), "spec": pureWorkflow})
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err != nil:
			t.Errorf("create: %v", err)
		case a.Status == http.StatusCreated:
			kept = append(kept, a.JSON(t)["id"].(string))
		case a.Status == http.StatusServiceUnavailable && a.Header.Get("Retry-After") != "":
			away++
		default:
			t.Errorf("create: %d, Retry-After %q: %.300s", a.Status, a.Header.Get("Retry-After"), a.Body)
		}
	}
	list := func() {
		a, err := p.Try(t, http.MethodGet, "/workflows?limit=10", nil)
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err != nil:
			t.Errorf("list: %v", err)
		case a.Status == http.StatusServiceUnavailable && a.Header.Get("Retry-After") != "":
			away++
		case a.Status != http.StatusOK:
			t.Errorf("list: %d, Retry-After %q: %.300s", a.Status, a.Header.Get("Retry-After"), a.Body)
		}
	}
	for client := range clients {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if client%4 == 0 {
					write(client, n)
				} else {
					list()
				}
			}
		})
	}
	count := func(of *int) int {
		mu.Lock()
		defer mu.Unlock()
		if of == nil {
			return len(kept)
		}
		return *of
	}
	platform.Await(t, "writes", func() bool { return count(nil) > 50 })
	require.NoError(t, server.Kill())
	platform.Await(t, "the death to be noticed", func() bool { return count(&away) > 0 })
	for range 5 {
		a := p.Call(t, http.MethodPost, "/workflows/execute", object{"workflow": pureWorkflow, "initial_state": object{"user_input": "you"}})
		require.Equal(t, http.StatusOK, a.Status, "an execution needs no Postgres: %s", a.Body)
		during++
	}
	require.NoError(t, server.Start(t.Context()))
	before := count(nil)
	platform.Await(t, "writes again", func() bool { return count(nil) > before+50 })
	stop()
	wg.Wait()
	require.Equal(t, 5, during)

	var page struct {
		Total int `json:"total"`
	}
	for _, id := range kept {
		p.Get(t, "/workflows/"+id)
	}
	p.Get(t, "/workflows?limit=1").Decode(t, &page)
	// A command whose answer was lost may have been carried out; none that was answered is missing.
	require.GreaterOrEqual(t, page.Total, len(kept))
	platform.Await(t, "every connection to come back", func() bool {
		figures, err := process.Metrics(t.Context(), admin)
		require.NoError(t, err)
		inUse, ok := figures[`agentflow_db_pool_connections{service="catalog",state="in_use"}`]
		return ok && inUse == 0 && figures[`agentflow_db_pool_connections_limit{service="catalog"}`] == 5
	})
}
