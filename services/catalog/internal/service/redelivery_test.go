package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/services/catalog/internal/postgres"
)

// A command that comes again is answered as it was, whatever has happened since.
func TestRedeliveryAnswersTheSame(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	acme := w.tenant("acme")
	w.project()

	create := command(acme, protocol.VerbWorkflowCreate, protocol.CreateWorkflow{Name: "n", Spec: plain()})
	first, err := w.CarryOut(t.Context(), create, true)
	require.NoError(t, err)
	var made protocol.Workflow
	require.NoError(t, json.Unmarshal(first, &made))
	same := func(c protocol.Command, want json.RawMessage, fresh bool) {
		t.Helper()
		got, err := w.CarryOut(t.Context(), c, fresh)
		require.NoError(t, err)
		require.JSONEq(t, string(want), string(got))
	}
	same(create, first, true)
	update := command(acme, protocol.VerbWorkflowUpdate, protocol.UpdateWorkflow{ID: made.ID, Name: ptr("other"), IfMatch: 1})
	second, err := w.CarryOut(t.Context(), update, true)
	require.NoError(t, err)
	stale := command(acme, protocol.VerbWorkflowUpdate, protocol.UpdateWorkflow{ID: made.ID, Name: ptr("stale"), IfMatch: 1})
	_, refused := w.CarryOut(t.Context(), stale, true)
	requireCode(t, refused, protocol.CodeVersionMismatch)
	missing := command(acme, protocol.VerbWorkflowCreate, protocol.CreateWorkflow{Name: "m", Spec: plain("later")})
	_, err = w.CarryOut(t.Context(), missing, true)
	requireCode(t, err, protocol.CodeWorkflowInvalid)
	do[protocol.KeptSource](w, acme, protocol.VerbSourceCreate, llm("later"))
	del := command(acme, protocol.VerbWorkflowDelete, protocol.DeleteWorkflow{ID: made.ID})
	third, err := w.CarryOut(t.Context(), del, true)
	require.NoError(t, err)

	for _, fresh := range []bool{true, false} {
		same(create, first, fresh)
		same(update, second, fresh)
		same(del, third, fresh)
		_, err = w.CarryOut(t.Context(), stale, fresh)
		require.Equal(t, refused.Error(), err.Error())
		_, err = w.CarryOut(t.Context(), missing, fresh)
		requireCode(t, err, protocol.CodeWorkflowInvalid)
	}
	require.Equal(t, 3, w.last(acme, protocol.KindWorkflow, made.ID).Revision)

	// A command that comes late for the first time is not carried out.
	_, err = w.CarryOut(t.Context(), command(acme, protocol.VerbWorkflowCreate, protocol.CreateWorkflow{Name: "late", Spec: plain()}), false)
	requireCode(t, err, protocol.CodeUnavailable)
}

// Many deliveries of one command at once make one document.
func TestTheSameCommandAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	acme := w.tenant("acme")
	c := command(acme, protocol.VerbWorkflowCreate, protocol.CreateWorkflow{Name: "n", Spec: plain()})
	const n = 16
	answers := make([]protocol.Workflow, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			raw, err := w.CarryOut(t.Context(), c, true)
			if err == nil {
				err = json.Unmarshal(raw, &answers[i])
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, a := range answers {
		require.Equal(t, answers[0].ID, a.ID)
	}
	require.Equal(t, 1, w.last(acme, protocol.KindWorkflow, answers[0].ID).Revision)
	l, err := w.store.ListWorkflows(t.Context(), protocol.ListWorkflowsRequest{Tenant: acme})
	require.NoError(t, err)
	require.Len(t, l.Items, 1)
}

// Of many who change one version, one wins.
func TestConcurrentUpdates(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	acme := w.tenant("acme")
	made := w.workflow(acme, "n")
	const n = 12
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			_, errs[i] = w.CarryOut(t.Context(), command(acme, protocol.VerbWorkflowUpdate, protocol.UpdateWorkflow{
				ID: made.ID, Name: ptr(fmt.Sprint("by ", i)), IfMatch: 1,
			}), true)
		})
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
			continue
		}
		requireCode(t, err, protocol.CodeVersionMismatch)
	}
	require.Equal(t, 1, won)
	require.Equal(t, 2, w.last(acme, protocol.KindWorkflow, made.ID).Revision)
}

var errCrash = errors.New("crash")

// A handler that dies at any step leaves nothing undone and nothing done twice.
//
//nolint:tparallel // the cases share one world and take turns
func TestCrashAtEveryStep(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	acme := w.tenant("acme")
	stop := w.project()
	stop() // the projector comes back where a case asks for it
	for _, at := range []string{"append", "appended", "applied"} {
		for _, project := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, projector first %t", at, project), func(t *testing.T) {
				w.t = t
				made := w.workflow(acme, "before")
				crash := func(c protocol.Command) {
					t.Helper()
					w.step = func(_ context.Context, s string) error {
						if s == at {
							return errCrash
						}
						return nil
					}
					_, err := w.CarryOut(t.Context(), c, true)
					require.ErrorIs(t, err, errCrash)
					w.step = func(context.Context, string) error { return nil }
					if project {
						stop := w.project()
						w.settled()
						stop()
					}
				}
				update := command(acme, protocol.VerbWorkflowUpdate, protocol.UpdateWorkflow{ID: made.ID, Name: ptr("after"), IfMatch: 1})
				crash(update)
				// Another command on the same document comes first, and sees what is in the log.
				if at != "append" {
					_, err := try[protocol.Workflow](w, acme, protocol.VerbWorkflowUpdate, protocol.UpdateWorkflow{ID: made.ID, Name: ptr("x"), IfMatch: 1})
					requireCode(t, err, protocol.CodeVersionMismatch)
				}
				updated, err := send[protocol.Workflow](w, update)
				require.NoError(t, err)
				require.Equal(t, "after", updated.Name)
				require.Equal(t, 2, updated.Version)

				create := command(acme, protocol.VerbWorkflowCreate, protocol.CreateWorkflow{Name: "new", Spec: plain()})
				crash(create)
				created, err := send[protocol.Workflow](w, create)
				require.NoError(t, err)
				require.Equal(t, 1, w.last(acme, protocol.KindWorkflow, created.ID).Revision)

				for _, id := range []string{made.ID, created.ID} {
					got, err := w.store.GetWorkflow(t.Context(), acme, id, 0)
					require.NoError(t, err)
					require.Equal(t, w.last(acme, protocol.KindWorkflow, id).Revision, got.Version)
				}
			})
		}
	}
	w.t = t
	w.project()
	w.settled()
	l, err := w.store.ListWorkflows(t.Context(), protocol.ListWorkflowsRequest{Tenant: acme})
	require.NoError(t, err)
	require.EqualValues(t, 12, l.Total)
	require.Len(t, l.Items, 12)
	// One record for each event, however it came into the tables.
	require.Len(t, w.audit(acme), 1+6*3)
}

// The tables may miss more than one event of a document, after a restore for example: then the
// projector must come first.
func TestCommandWaitsForTheProjector(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	acme := w.tenant("acme")
	made := w.workflow(acme, "n")
	last, seq, err := w.bus.LastCatalog(t.Context(), acme, protocol.KindWorkflow, made.ID)
	require.NoError(t, err)
	for i := range 2 {
		e := last
		e.Type, e.Revision, e.CommandID = "workflow_updated.v1", last.Revision+1+i, fmt.Sprint("elsewhere-", i)
		doc := made
		doc.Version, doc.Name = e.Revision, fmt.Sprint("name ", i)
		e.Document, err = json.Marshal(doc)
		require.NoError(t, err)
		seq, err = w.bus.AppendCatalog(t.Context(), e, seq)
		require.NoError(t, err)
	}
	update := command(acme, protocol.VerbWorkflowUpdate, protocol.UpdateWorkflow{ID: made.ID, Name: ptr("late")})
	_, err = w.CarryOut(t.Context(), update, true)
	require.ErrorIs(t, err, postgres.ErrUnavailable)
	w.project()
	w.settled()
	after, err := send[protocol.Workflow](w, update)
	require.NoError(t, err)
	require.Equal(t, 4, after.Version)
	versions, err := w.store.ListWorkflowVersions(t.Context(), protocol.ListWorkflowVersionsRequest{Tenant: acme, ID: made.ID})
	require.NoError(t, err)
	require.Len(t, versions.Items, 4)
}

// Commands over the bus: sent by a client, handled by two instances.
func TestCommandsOverTheBus(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	second := newStore(t, w.url, 4)
	other := *w.Service
	other.store = second
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, s := range []*Service{w.Service, &other} {
		wg.Go(func() {
			if err := s.Commands(ctx, 4); err != nil {
				t.Error(err)
			}
		})
	}
	defer wg.Wait()
	defer cancel()
	ask := func(c protocol.Command) (protocol.Tenant, error) {
		ctx, cancel := context.WithTimeout(t.Context(), waitFor)
		defer cancel()
		return bus.SendCommand[protocol.Tenant](ctx, w.bus, c)
	}
	c := command("acme", protocol.VerbTenantCreate, protocol.CreateTenant{Name: "Acme"})
	made, err := ask(c)
	require.NoError(t, err)
	require.Equal(t, "Acme", made.Name)
	again, err := ask(c)
	require.NoError(t, err)
	require.Equal(t, made, again)
	_, err = ask(command("acme", protocol.VerbTenantCreate, protocol.CreateTenant{}))
	requireCode(t, err, protocol.CodeConflict)
	_, err = ask(command("acme", "dance", nil))
	requireCode(t, err, protocol.CodeMalformed)
	_, err = ask(command("acme", protocol.VerbTenantUpdate, "no object"))
	requireCode(t, err, protocol.CodeMalformed)
}

// A workflow that is in the log, and whose command died before its row was, holds its source: whether it was written
// before the deletion began or between its first look and its lock.
func TestSourceOfAWorkflowOnItsWay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	stop := w.project()
	acme := w.tenant("acme")
	do[protocol.KeptSource](w, acme, protocol.VerbSourceCreate, llm("main"))
	w.settled()

	// The deletion stands before its lock, having seen that nobody uses the source; then the workflow is written.
	die := func(_ context.Context, s string) error {
		if s == "appended" {
			return errCrash
		}
		return nil
	}
	deletion := verbs[protocol.VerbSourceDelete]
	deletion.prepare = func(context.Context, *Service, protocol.Command) error { return nil }
	dying := *w.Service
	dying.step = die
	// While nobody brings the log into the tables, a deletion is put off.
	stop()
	create := command(acme, protocol.VerbWorkflowCreate, protocol.CreateWorkflow{Name: "on its way", Spec: plain("main")})
	_, err := dying.CarryOut(t.Context(), create, true)
	require.ErrorIs(t, err, errCrash)
	del := command(acme, protocol.VerbSourceDelete, protocol.DeleteSource{ID: "main"})
	_, err = w.attempt(t.Context(), deletion, del, "main", true)
	require.ErrorIs(t, err, postgres.ErrUnavailable)
	w.project()
	_, err = w.attempt(t.Context(), deletion, del, "main", true)
	refusal := refusalOf(t, err, protocol.CodeConflict)
	require.Contains(t, refusal.Message, "on its way")
	// Nor may it become something else.
	other := "image"
	update := protocol.UpdateSource{ID: "main", Kind: &other}
	_, err = try[protocol.KeptSource](w, acme, protocol.VerbSourceUpdate, update)
	requireCode(t, err, protocol.CodeConflict)

	made, err := send[protocol.Workflow](w, create)
	require.NoError(t, err)
	do[protocol.Workflow](w, acme, protocol.VerbWorkflowDelete, protocol.DeleteWorkflow{ID: made.ID})
	do[protocol.KeptSource](w, acme, protocol.VerbSourceDelete, protocol.DeleteSource{ID: "main"})
}
