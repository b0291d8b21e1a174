package service

import (
	"context"
	"encoding/json"
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
					wait, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
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
	for range 3 {
		before := count()
		require.Eventually(t, func() bool { return count() > before+20 }, waitFor, tick)
		require.NoError(t, server.Kill())
		require.NoError(t, server.Start(t.Context()))
	}
	before := count()
	require.Eventually(t, func() bool { return count() > before+20 }, waitFor, tick)
	enough()
	wg.Wait()
	stop()
	require.NoError(t, <-handling)
	require.Positive(t, refused, "the deaths were noticed")
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

// The frozen names of the events that this service writes: what stands in a log for ever must be
// read for ever.
func TestCatalogEventsAreGolden(t *testing.T) {
	t.Parallel()
	for _, golden := range []string{
		`{"type":"tenant_created.v1","at":"2026-01-02T03:04:05.678Z","tenant":"acme","kind":"tenant","id":"acme","revision":1,"command_id":"cmd_1","request_id":"req_1","actor":"admin","document":{"id":"acme","name":"Acme","status":"active","limits":{"max_requests_per_minute":60},"version":1,"created_at":"2026-01-02T03:04:05.678Z","updated_at":"2026-01-02T03:04:05.678Z"}}`,
		`{"type":"key_rotated.v1","at":"2026-01-02T03:04:05.678Z","tenant":"acme","kind":"key","id":"key_1","revision":2,"command_id":"cmd_2","actor":"admin","document":{"id":"key_1","tenant_id":"acme","name":"ci","hash":"ab","prefix":"af_1","scopes":["workflows:read"],"status":"active","expires_at":null,"created_at":"2026-01-02T03:04:05.678Z","revoked_at":null,"version":2,"previous_hash":"cd","previous_expires_at":"2026-01-02T04:04:05.678Z"}}`,
		`{"type":"workflow_published.v1","at":"2026-01-02T03:04:05.678Z","tenant":"acme","kind":"workflow","id":"wf_1","revision":2,"command_id":"cmd_3","actor":"key_1","document":{"id":"wf_1","tenant_id":"acme","name":"n","description":"d","status":"published","version":2,"spec":{"start_node":"a"},"created_at":"2026-01-02T03:04:05.678Z","created_by":"key_1","updated_at":"2026-01-02T03:04:05.678Z","updated_by":"key_1","deleted_at":null}}`,
		`{"type":"source_deleted.v1","at":"2026-01-02T03:04:05.678Z","tenant":"acme","kind":"source","id":"main","revision":3,"command_id":"cmd_4","actor":"key_1","document":{"id":"main","kind":"llm","config":{"model":"m"},"tenant_id":"acme","version":2,"status":"deleted","created_at":"2026-01-02T03:04:05.678Z","created_by":"key_1","updated_at":"2026-01-02T03:04:05.678Z","updated_by":"key_1","deleted_at":"2026-01-02T03:04:05.678Z","deleted_by":"key_1"}}`,
	} {
		var e protocol.CatalogEvent
		require.NoError(t, json.Unmarshal([]byte(golden), &e))
		require.NoError(t, readable(e))
		var document any
		switch e.Kind {
		case protocol.KindTenant:
			document = &protocol.Tenant{}
		case protocol.KindKey:
			document = &protocol.Key{}
		case protocol.KindWorkflow:
			document = &protocol.Workflow{}
		case protocol.KindSource:
			document = &protocol.KeptSource{}
		}
		require.NoError(t, json.Unmarshal(e.Document, document))
		again, err := json.Marshal(document)
		require.NoError(t, err)
		require.JSONEq(t, string(e.Document), string(again))
		whole, err := json.Marshal(e)
		require.NoError(t, err)
		require.JSONEq(t, golden, string(whole))
	}
	require.ErrorIs(t, readable(protocol.CatalogEvent{Type: "key_created.v1", Kind: protocol.KindTenant}), errUnreadable)
}
