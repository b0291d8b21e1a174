package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/agentflow/agentflow/pkg/local"
	"github.com/agentflow/agentflow/pkg/local/localtest"
	"github.com/agentflow/agentflow/pkg/protocol"
)

func TestQueriesAreLogged(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.DebugLevel)
	service, owner := open(t, localtest.Postgres(t), Config{Log: zap.New(core)})
	seed(t, owner)
	_, err := service.GetWorkflow(t.Context(), "acme", "wf_acme", 0)
	require.NoError(t, err)
	entries := logs.FilterMessage("query").FilterField(zap.String("tenant", "acme")).All()
	require.NotEmpty(t, entries)
	fields := entries[len(entries)-1].ContextMap()
	require.Contains(t, fields["sql"], "from workflows")
	require.Contains(t, fields, "took")
	require.NotContains(t, fmt.Sprint(fields), "wf_acme", "arguments are the tenant's")

	require.NoError(t, service.Tenant(t.Context(), "acme", func(tx *Tx) error {
		_, err := tx.tx.Exec(t.Context(), "select pg_sleep($1)", 0.15)
		return err
	}))
	slow := logs.FilterMessage("slow query").All()
	require.Len(t, slow, 1)
	require.Equal(t, zapcore.WarnLevel, slow[0].Level)
	require.NotEmpty(t, logs.FilterMessage("postgres connection opened").All())
}

func gather(t *testing.T, s *Store) map[string]float64 {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(s.Collector())
	families, err := reg.Gather()
	require.NoError(t, err)
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := []string{f.GetName()}
			for _, l := range m.GetLabel() {
				name = append(name, l.GetValue())
			}
			out[strings.Join(name, "/")] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return out
}

// Many more callers than connections: all are served, and every connection comes back.
func TestManyCallersFewConnections(t *testing.T) {
	t.Parallel()
	service, owner := open(t, localtest.Postgres(t), Config{PoolSize: 3, Overflow: 2})
	seed(t, owner)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			tenant := protocol.TenantID([]string{"acme", "beta"}[i%2])
			for range 5 {
				wf, err := service.GetWorkflow(t.Context(), tenant, "wf_"+string(tenant), 0)
				if err != nil || wf.Tenant != tenant {
					t.Errorf("%s: %v %v", tenant, wf.Tenant, err)
				}
				err = service.Tenant(t.Context(), tenant, func(tx *Tx) error {
					_, err := tx.Enter(t.Context(), tenant, protocol.KindWorkflow, "wf_"+string(tenant), strconv.Itoa(i))
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	figures := gather(t, service)
	require.Zero(t, figures["agentflow_db_pool_connections/in_use"])
	require.LessOrEqual(t, figures["agentflow_db_pool_opened_total"], 5.0)
	require.EqualValues(t, 5, figures["agentflow_db_pool_connections_limit"])
	require.GreaterOrEqual(t, figures["agentflow_db_pool_acquired_total"], 2000.0)
	require.Positive(t, figures["agentflow_db_pool_waited_total"])
	require.Positive(t, figures["agentflow_db_pool_wait_seconds_total"])

	// Whoever gives up, errs, or panics returns its connection too.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := service.GetWorkflow(ctx, "acme", "wf_acme", 0)
	require.Error(t, err)
	require.ErrorIs(t, service.Tenant(t.Context(), "acme", func(*Tx) error { return errBoom }), errBoom)
	require.Panics(t, func() { _ = service.Tenant(t.Context(), "acme", func(*Tx) error { panic("boom") }) })
	require.Eventually(t, func() bool { return gather(t, service)["agentflow_db_pool_connections/in_use"] == 0 }, waitFor, tick)
}

var errBoom = errors.New("boom")

func TestWaitForConnectionEnds(t *testing.T) {
	t.Parallel()
	service, _ := open(t, localtest.Postgres(t), Config{PoolSize: 1, PoolTimeout: 20 * time.Millisecond})
	require.NoError(t, service.Ping(t.Context()))
	require.NoError(t, service.Tenant(t.Context(), "acme", func(*Tx) error {
		_, err := service.Exists(t.Context(), "acme", "workflow", "x")
		require.ErrorIs(t, err, ErrUnavailable)
		require.ErrorContains(t, err, "no connection became free")
		return nil
	}))
	require.EqualValues(t, 1, gather(t, service)["agentflow_db_pool_timeouts_total"])
}

// Postgres goes and comes back under load: no write that was confirmed is lost, what fails in
// between says that it is worth another try, and afterwards everything works.
func TestRestartUnderLoad(t *testing.T) {
	t.Parallel()
	server := localtest.PostgresServer(t)
	service, owner := open(t, server.URL(), Config{PoolSize: 5, PoolTimeout: 5 * time.Second})
	// The test's server confirms before it writes, to be fast: not here.
	_, err := owner.pool.Exec(t.Context(), "alter system set synchronous_commit = on")
	require.NoError(t, err)
	_, err = owner.pool.Exec(t.Context(), "alter role all set synchronous_commit = on")
	require.NoError(t, err)
	service.pool.Reset()
	ctx, stop := context.WithCancel(t.Context())
	var (
		mu        sync.Mutex
		confirmed []string
		failures  int
		wg        sync.WaitGroup
	)
	for i := range 8 {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				id := fmt.Sprintf("%d-%d", i, n)
				err := service.RecordAudit(t.Context(), "acme", protocol.AuditRecord{ID: id, At: protocol.At(time.Now())})
				mu.Lock()
				if err == nil {
					confirmed = append(confirmed, id)
				} else {
					failures++
					if !errors.Is(err, ErrUnavailable) {
						t.Errorf("not worth another try: %v", err)
					}
				}
				mu.Unlock()
			}
		})
	}
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(confirmed)
	}
	for _, end := range []func(*local.Postgres) error{
		func(p *local.Postgres) error { return p.Kill() },
		func(p *local.Postgres) error { return p.Stop(t.Context()) },
	} {
		before := count()
		require.Eventually(t, func() bool { return count() > before+50 }, waitFor, tick)
		require.NoError(t, end(server))
		require.NoError(t, server.Start(t.Context()))
		after := count()
		require.Eventually(t, func() bool { return count() > after+50 }, waitFor, tick)
	}
	stop()
	wg.Wait()
	require.Positive(t, failures, "the restarts were noticed")
	l := map[string]bool{}
	require.NoError(t, service.Platform(t.Context(), func(tx *Tx) error {
		rows, err := tx.tx.Query(t.Context(), "select id from audit_log")
		if err != nil {
			return err
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
		for _, id := range ids {
			l[id] = true
		}
		return err
	}))
	for _, id := range confirmed {
		require.True(t, l[id], id)
	}
}

// One leads at a time; when its connection dies, another does.
func TestLead(t *testing.T) {
	t.Parallel()
	service, owner := open(t, localtest.Postgres(t), Config{})
	ctx, cancel := context.WithCancel(t.Context())
	var (
		mu      sync.Mutex
		leading int
		terms   int
		wg      sync.WaitGroup
	)
	for range 3 {
		wg.Go(func() {
			service.Lead(ctx, 10*time.Millisecond, func(ctx context.Context) {
				mu.Lock()
				leading++
				terms++
				if leading > 1 {
					t.Error("two lead at once")
				}
				mu.Unlock()
				<-ctx.Done()
				mu.Lock()
				leading--
				mu.Unlock()
			})
		})
	}
	term := func(n int) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return terms == n && leading == 1
		}
	}
	require.Eventually(t, term(1), waitFor, tick)
	cancel()
	wg.Wait()

	// Without its connection a leader resigns.
	ctx, cancel = context.WithCancel(t.Context())
	resigned := make(chan struct{}, 10)
	wg.Go(func() {
		service.Lead(ctx, 10*time.Millisecond, func(ctx context.Context) {
			<-ctx.Done()
			resigned <- struct{}{}
		})
	})
	require.Eventually(t, func() bool {
		// The first connection to be ended may be that of the leader before, which closes just now.
		_, err := owner.pool.Exec(t.Context(), `
			select pg_terminate_backend(pid) from pg_locks
			where locktype = 'advisory' and classid = $1 and database = (select oid from pg_database where datname = current_database())`, leadership)
		return err == nil && len(resigned) > 0
	}, waitFor, tick)
	cancel()
	wg.Wait()
}
