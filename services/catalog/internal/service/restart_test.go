package service

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/local/localtest"
	"github.com/agentflow/agentflow/pkg/protocol"
)

// Postgres dies again and again under commands and executions. What was answered with success is
// there, once; what was not is UNAVAILABLE and may be tried again; and the tables catch up.
func TestPostgresDiesUnderLoad(t *testing.T) {
	t.Parallel()
	server := localtest.PostgresServer(t)
	w := newWorld(t, options{adminURL: server.URL(), poolSize: 6})
	// The test's server confirms before it writes, to be fast: not here.
	w.sql("alter role all set synchronous_commit = on")
	acme := w.tenant("acme")
	w.project()
	ctx, stop := context.WithCancel(t.Context())
	handling := make(chan error, 1)
	go func() { handling <- w.Commands(ctx, 6) }()

	var (
		mu        sync.Mutex
		confirmed []string
		runs      []*run
		refused   int
		wg        sync.WaitGroup
	)
	loading, enough := context.WithCancel(t.Context())
	for i := range 4 {
		wg.Go(func() {
			for n := 0; loading.Err() == nil; n++ {
				c := command(acme, protocol.VerbWorkflowCreate, protocol.CreateWorkflow{Name: fmt.Sprintf("%d-%d", i, n), Spec: plain()})
				for { // the client tries again with the same id until it has an answer
					wait, cancel := context.WithTimeout(t.Context(), time.Second)
					made, err := bus.SendCommand[protocol.Workflow](wait, w.bus, c)
					cancel()
					mu.Lock()
					if err == nil {
						confirmed = append(confirmed, made.ID)
						mu.Unlock()
						break
					}
					refused++
					if !isUnavailable(err) {
						t.Errorf("not worth another try: %v", err)
					}
					mu.Unlock()
				}
			}
		})
	}
	wg.Go(func() {
		for loading.Err() == nil {
			r := w.start(acme, protocol.Requested{}).complete()
			mu.Lock()
			runs = append(runs, r)
			mu.Unlock()
		}
	})
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(confirmed)
	}
	failures := func() int {
		mu.Lock()
		defer mu.Unlock()
		return refused
	}
	for range 3 {
		before := count()
		require.Eventually(t, func() bool { return count() > before+20 }, waitFor, tick)
		unanswered := failures()
		require.NoError(t, server.Kill())
		require.Eventually(t, func() bool { return failures() > unanswered }, waitFor, tick, "the death is noticed")
		require.NoError(t, server.Start(t.Context()))
	}
	before := count()
	require.Eventually(t, func() bool { return count() > before+20 }, waitFor, tick)
	enough()
	wg.Wait()
	stop()
	require.NoError(t, <-handling)
	w.settled()

	for _, id := range confirmed {
		_, err := w.store.GetWorkflow(t.Context(), acme, id, 0)
		require.NoError(t, err)
		require.Equal(t, 1, w.last(acme, protocol.KindWorkflow, id).Revision)
	}
	l, err := w.store.ListWorkflows(t.Context(), protocol.ListWorkflowsRequest{Tenant: acme, Page: protocol.Page{Limit: 1}})
	require.NoError(t, err)
	require.EqualValues(t, len(confirmed), l.Total, "each once")
	require.EqualValues(t, len(confirmed), w.count("select count(*) from workflows"))
	require.EqualValues(t, len(confirmed)+1, w.count("select count(*) from audit_log"))
	require.EqualValues(t, len(runs), w.count("select count(*) from executions where status = 'COMPLETED'"))
	require.EqualValues(t, 2*len(runs), w.count("select count(*) from execution_events"))
	l2, err := w.store.ListExecutions(t.Context(), protocol.ListExecutionsRequest{Tenant: acme, Page: protocol.Page{Limit: 1}})
	require.NoError(t, err)
	require.EqualValues(t, len(runs), l2.Total)
}

func isUnavailable(err error) bool {
	return protocol.CodeOf(outward(err)) == protocol.CodeUnavailable
}
