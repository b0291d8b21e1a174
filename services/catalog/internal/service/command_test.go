package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/typeid"
	"github.com/agentflow/agentflow/services/catalog/internal/credential"
	"github.com/agentflow/agentflow/services/catalog/internal/postgres"
)

func ptr[T any](v T) *T { return &v }

// events are all events of a document, as the log has them.
func (w *world) last(t protocol.TenantID, kind protocol.CatalogKind, id string) protocol.CatalogEvent {
	w.t.Helper()
	e, _, err := w.bus.LastCatalog(w.t.Context(), t, kind, id)
	require.NoError(w.t, err)
	return e
}

func (w *world) audit(t protocol.TenantID) []protocol.AuditRecord {
	w.t.Helper()
	l, err := w.store.ListAudit(w.t.Context(), protocol.ListAuditRequest{Tenant: t, Page: protocol.Page{Limit: 100}})
	require.NoError(w.t, err)
	return l.Items
}

func TestWorkflowLife(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	acme := w.tenant("acme")

	made := w.workflow(acme, "first")
	require.NoError(t, typeid.Check("wf", made.ID))
	require.Equal(t, protocol.WorkflowDraft, made.Status)
	require.Equal(t, 1, made.Version)
	require.Equal(t, "key_tester", made.CreatedBy)

	got, err := w.store.GetWorkflow(t.Context(), acme, made.ID, 0)
	require.NoError(t, err)
	require.JSONEq(t, string(plain()), string(got.Spec))
	got.Spec, made.Spec = nil, nil
	require.Equal(t, made, got)

	changed := do[protocol.Workflow](w, acme, protocol.VerbWorkflowUpdate, protocol.UpdateWorkflow{
		ID: made.ID, Name: ptr("second"), Description: ptr("what it does"), IfMatch: 1,
	})
	require.Equal(t, 2, changed.Version)
	require.Equal(t, "second", changed.Name)
	_, err = try[protocol.Workflow](w, acme, protocol.VerbWorkflowUpdate, protocol.UpdateWorkflow{ID: made.ID, Name: ptr("third"), IfMatch: 1})
	requireCode(t, err, protocol.CodeVersionMismatch)
	same := do[protocol.Workflow](w, acme, protocol.VerbWorkflowUpdate, protocol.UpdateWorkflow{ID: made.ID, Name: ptr("second"), Spec: plain()})
	require.Equal(t, 2, same.Version, "nothing has changed")

	// Only along the arrows.
	move := func(to string) error {
		_, err := try[protocol.Workflow](w, acme, protocol.VerbWorkflowUpdate, protocol.UpdateWorkflow{ID: made.ID, Status: &to})
		return err
	}
	requireCode(t, move(protocol.WorkflowArchived), protocol.CodeConflict)
	require.NoError(t, move(protocol.WorkflowPublished))
	requireCode(t, move(protocol.WorkflowDraft), protocol.CodeConflict)
	require.NoError(t, move(protocol.WorkflowArchived))
	requireCode(t, move(protocol.WorkflowDraft), protocol.CodeConflict)
	require.NoError(t, move(protocol.WorkflowPublished))
	requireCode(t, move(protocol.WorkflowDeleted), protocol.CodeInvalid)
	requireCode(t, move("lost"), protocol.CodeInvalid)
	require.Equal(t, "workflow_published.v1", w.last(acme, protocol.KindWorkflow, made.ID).Type)

	versions, err := w.store.ListWorkflowVersions(t.Context(), protocol.ListWorkflowVersionsRequest{Tenant: acme, ID: made.ID, Page: protocol.Page{Limit: 2}})
	require.NoError(t, err)
	require.EqualValues(t, 5, versions.Total)
	require.True(t, versions.HasMore)
	require.Equal(t, []int{5, 4}, []int{versions.Items[0].Version, versions.Items[1].Version})
	next, err := w.store.ListWorkflowVersions(t.Context(), protocol.ListWorkflowVersionsRequest{
		Tenant: acme, ID: made.ID, Page: protocol.Page{Limit: 10, Cursor: versions.NextCursor},
	})
	require.NoError(t, err)
	require.Len(t, next.Items, 3)
	require.Equal(t, 3, next.Items[0].Version)
	old, err := w.store.GetWorkflow(t.Context(), acme, made.ID, 1)
	require.NoError(t, err)
	require.Equal(t, "first", old.Name)
	_, err = w.store.GetWorkflow(t.Context(), acme, made.ID, 99)
	requireCode(t, err, protocol.CodeNotFound)

	w.project()
	gone := do[protocol.Workflow](w, acme, protocol.VerbWorkflowDelete, protocol.DeleteWorkflow{ID: made.ID})
	require.Equal(t, protocol.WorkflowDeleted, gone.Status)
	require.False(t, gone.DeletedAt.IsZero())
	_, err = w.store.GetWorkflow(t.Context(), acme, made.ID, 0)
	requireCode(t, err, protocol.CodeNotFound)
	_, err = try[protocol.Workflow](w, acme, protocol.VerbWorkflowUpdate, protocol.UpdateWorkflow{ID: made.ID, Name: ptr("x")})
	requireCode(t, err, protocol.CodeNotFound)
	_, err = try[protocol.Workflow](w, acme, protocol.VerbWorkflowCreate, protocol.CreateWorkflow{ID: made.ID, Name: "again", Spec: plain()})
	requireCode(t, err, protocol.CodeConflict)
	deleted, err := w.store.ListWorkflows(t.Context(), protocol.ListWorkflowsRequest{Tenant: acme, Status: protocol.WorkflowDeleted})
	require.NoError(t, err)
	require.Len(t, deleted.Items, 1)
	require.EqualValues(t, 1, deleted.Total)
}

func TestWorkflowIsCheckedWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	acme := w.tenant("acme")
	create := func(spec string) *protocol.Error {
		t.Helper()
		_, err := try[protocol.Workflow](w, acme, protocol.VerbWorkflowCreate, protocol.CreateWorkflow{Name: "bad", Spec: json.RawMessage(spec)})
		var refusal *protocol.Error
		require.ErrorAs(t, err, &refusal)
		return refusal
	}
	refusal := create(`{"start_node":"in","nodes":[
		{"id":"in","type":"input"},
		{"id":"a","type":"llm","metadata":{"source_id":"nobody"}},
		{"id":"b","type":"llm","metadata":{"source_id":"mine","prompt":"p","api_key":"S3cretValue-1234567890"}}
	],"edges":[{"from":"in","to":["a","b"]}],"sources":[{"id":"mine","kind":"llm","config":{"model":"m","token":"S3cretValue-1234567890"}}]}`)
	require.Equal(t, protocol.CodeWorkflowInvalid, refusal.Code)
	details, err := json.Marshal(refusal.Details)
	require.NoError(t, err)
	for _, part := range []string{"source_missing", "metadata_missing", "sources[0].config.token", "metadata.api_key", "token_env"} {
		require.Contains(t, string(details), part)
	}
	require.NotContains(t, string(details)+refusal.Message, "S3cret")

	require.Equal(t, protocol.CodeWorkflowInvalid, create(`{"nodes":[]}`).Code)
	require.Equal(t, protocol.CodeWorkflowInvalid, create(`[]`).Code)
	require.Equal(t, protocol.CodeInvalid, create(`null`).Code)
	require.Equal(t, protocol.CodeInvalid, create(`{"start_node":"in","nodes":[{"id":"in","type":"input"}],"description":"a\u0000b"}`).Code)
	require.Equal(t, protocol.CodeTooLarge, create(`{"start_node":"in","nodes":[{"id":"in","type":"input"}],"x":"`+strings.Repeat("x", maxSpec)+`"}`).Code)
	l, err := w.store.ListWorkflows(t.Context(), protocol.ListWorkflowsRequest{Tenant: acme})
	require.NoError(t, err)
	require.Empty(t, l.Items)

	// A megabyte, and every Unicode plane in the name.
	name := "é中\U0001F600\U00020000\U000E0041\U0010FFFDa\u202Eb"
	big := `{"start_node":"in","nodes":[{"id":"in","type":"input"}],"note":"` + strings.Repeat("ü", 500_000) + `"}`
	made := do[protocol.Workflow](w, acme, protocol.VerbWorkflowCreate, protocol.CreateWorkflow{Name: name, Spec: json.RawMessage(big)})
	got, err := w.store.GetWorkflow(t.Context(), acme, made.ID, 0)
	require.NoError(t, err)
	require.Equal(t, name, got.Name)
	require.JSONEq(t, big, string(got.Spec))
	for _, bad := range []string{"", " \t", "a\x00b", "a\nb", strings.Repeat("x", maxName+1)} {
		_, err := try[protocol.Workflow](w, acme, protocol.VerbWorkflowUpdate, protocol.UpdateWorkflow{ID: made.ID, Name: &bad})
		require.Equal(t, "name", refusalOf(t, err, protocol.CodeInvalid).Field)
	}
}

func TestSourceLife(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	acme := w.tenant("acme")
	w.project()

	made := do[protocol.KeptSource](w, acme, protocol.VerbSourceCreate, llm("main"))
	require.Equal(t, "main", made.ID)
	require.Equal(t, 1, made.Version)
	named := do[protocol.KeptSource](w, acme, protocol.VerbSourceCreate, llm(""))
	require.NoError(t, typeid.Check("src", named.ID))
	_, err := try[protocol.KeptSource](w, acme, protocol.VerbSourceCreate, llm("main"))
	requireCode(t, err, protocol.CodeConflict)

	other := llm("main")
	other.Replace = true
	other.Config["model"] = "gpt-4o"
	replaced := do[protocol.KeptSource](w, acme, protocol.VerbSourceCreate, other)
	require.Equal(t, 2, replaced.Version)
	require.Equal(t, "gpt-4o", replaced.Config["model"])

	// Whoever uses it holds it.
	user := w.workflow(acme, "user of main", "main")
	_, err = try[protocol.KeptSource](w, acme, protocol.VerbSourceDelete, protocol.DeleteSource{ID: "main"})
	refusal := refusalOf(t, err, protocol.CodeConflict)
	require.Contains(t, refusal.Message, user.ID)
	require.Contains(t, refusal.Message, "user of main")
	_, err = try[protocol.KeptSource](w, acme, protocol.VerbSourceUpdate, protocol.UpdateSource{
		ID: "main", Kind: ptr("db"), Config: map[string]any{"connection_string_env": "X"},
	})
	requireCode(t, err, protocol.CodeConflict)
	do[protocol.Workflow](w, acme, protocol.VerbWorkflowUpdate, protocol.UpdateWorkflow{ID: user.ID, Spec: plain(named.ID)})
	gone := do[protocol.KeptSource](w, acme, protocol.VerbSourceDelete, protocol.DeleteSource{ID: "main", IfMatch: 2})
	require.Equal(t, protocol.SourceDeleted, gone.Status)
	_, err = try[protocol.KeptSource](w, acme, protocol.VerbSourceDelete, protocol.DeleteSource{ID: "main"})
	requireCode(t, err, protocol.CodeNotFound)
	_, err = try[protocol.KeptSource](w, acme, protocol.VerbSourceDelete, protocol.DeleteSource{ID: named.ID})
	requireCode(t, err, protocol.CodeConflict)
	do[protocol.Workflow](w, acme, protocol.VerbWorkflowDelete, protocol.DeleteWorkflow{ID: user.ID})
	do[protocol.KeptSource](w, acme, protocol.VerbSourceDelete, protocol.DeleteSource{ID: named.ID})

	// The id is free again, and its versions go on.
	again := do[protocol.KeptSource](w, acme, protocol.VerbSourceCreate, llm("main"))
	require.Equal(t, 3, again.Version)
	l, err := w.store.ListSources(t.Context(), protocol.ListSourcesRequest{Tenant: acme})
	require.NoError(t, err)
	require.Len(t, l.Items, 1)
	require.EqualValues(t, 1, l.Total)

	for _, bad := range []protocol.CreateSource{
		{}, llm("a b"), llm(strings.Repeat("x", 101)), llm("a\x00"),
	} {
		_, err := try[protocol.KeptSource](w, acme, protocol.VerbSourceCreate, bad)
		requireCode(t, err, protocol.CodeInvalid)
	}
	secret := llm("secret")
	secret.Config["headers"] = map[string]any{"Authorization": "Bearer S3cretValue-1234567890"}
	_, err = try[protocol.KeptSource](w, acme, protocol.VerbSourceCreate, secret)
	refusal = refusalOf(t, err, protocol.CodeInvalid)
	require.Equal(t, "config.headers.Authorization", refusal.Field)
	require.Contains(t, refusal.Message, `"token_env"`)
	require.NotContains(t, refusal.Message, "S3cret")
}

func TestTenantsAndKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	acme := w.tenant("acme")
	_, err := try[protocol.Tenant](w, acme, protocol.VerbTenantCreate, protocol.CreateTenant{})
	requireCode(t, err, protocol.CodeConflict)
	_, err = try[protocol.Tenant](w, "no such", protocol.VerbTenantCreate, protocol.CreateTenant{})
	requireCode(t, err, protocol.CodeInvalid)

	hash, second := strings.Repeat("ab", 32), strings.Repeat("cd", 32)
	_, err = try[protocol.Key](w, "nobody", protocol.VerbKeyCreate, protocol.CreateKey{Name: "k", Hash: hash})
	requireCode(t, err, protocol.CodeNotFound)
	made := do[protocol.Key](w, acme, protocol.VerbKeyCreate, protocol.CreateKey{Name: "k", Hash: hash, Prefix: "af_12345678"})
	require.NoError(t, typeid.Check("key", made.ID))
	require.Equal(t, credential.Mask, made.Hash, "an answer never tells the hash")
	require.ElementsMatch(t, protocol.TenantScopes(), made.Scopes)
	for field, bad := range map[string]protocol.CreateKey{
		"hash":              {Name: "k", Hash: "abc"},
		"name":              {Hash: second},
		"scopes":            {Name: "k", Hash: second, Scopes: []string{"everything"}},
		"expires_at":        {Name: "k", Hash: second, ExpiresAt: protocol.At(time.Now().Add(-time.Hour))},
		"prefix":            {Name: "k", Hash: second, Prefix: strings.Repeat("x", 17)},
		"limits.burst_size": {Name: "k", Hash: second, Limits: &protocol.TenantLimits{BurstSize: ptr(-1)}},
	} {
		_, err := try[protocol.Key](w, acme, protocol.VerbKeyCreate, bad)
		require.Equal(t, field, refusalOf(t, err, protocol.CodeInvalid).Field)
	}
	// Nobody gets the same secret twice, whoever asks.
	beta := w.tenant("beta")
	_, err = try[protocol.Key](w, beta, protocol.VerbKeyCreate, protocol.CreateKey{Name: "k", Hash: hash})
	requireCode(t, err, protocol.CodeConflict)

	do[protocol.Key](w, acme, protocol.VerbKeyRotate, protocol.RotateKey{ID: made.ID, Hash: second, Prefix: "af_87654321", OverlapSeconds: 60})
	var doc protocol.Key
	require.NoError(t, json.Unmarshal(w.last(acme, protocol.KindKey, made.ID).Document, &doc))
	require.Equal(t, second, doc.Hash)
	require.Equal(t, hash, doc.PreviousHash)
	require.Equal(t, w.last(acme, protocol.KindKey, made.ID).At.Add(time.Minute), doc.PreviousExpiresAt.Time)

	past := protocol.At(time.Now().Add(-time.Minute))
	do[protocol.Key](w, acme, protocol.VerbKeyUpdate, protocol.UpdateKey{ID: made.ID, ExpiresAt: &past})
	k, err := w.getKey(t.Context(), protocol.GetKeyRequest{Tenant: acme, ID: made.ID})
	require.NoError(t, err)
	require.Equal(t, protocol.StatusExpired, k.Status)
	require.Equal(t, credential.Mask, k.Hash)
	for status, n := range map[string]int{"": 1, protocol.StatusActive: 0, protocol.StatusExpired: 1, protocol.StatusRevoked: 0} {
		l, err := w.listKeys(t.Context(), protocol.ListKeysRequest{Tenant: acme, Status: status})
		require.NoError(t, err)
		require.Len(t, l.Items, n, status)
	}

	revoked := do[protocol.Key](w, acme, protocol.VerbKeyRevoke, protocol.RevokeKey{ID: made.ID})
	require.Equal(t, protocol.StatusRevoked, revoked.Status)
	again := do[protocol.Key](w, acme, protocol.VerbKeyRevoke, protocol.RevokeKey{ID: made.ID})
	require.Equal(t, revoked, again)
	_, err = try[protocol.Key](w, acme, protocol.VerbKeyRotate, protocol.RotateKey{ID: made.ID, Hash: strings.Repeat("ef", 32)})
	requireCode(t, err, protocol.CodeConflict)

	// A suspended tenant does not write.
	do[protocol.Tenant](w, acme, protocol.VerbTenantUpdate, protocol.UpdateTenant{Status: ptr(protocol.StatusSuspended)})
	require.Equal(t, "tenant_suspended.v1", w.last(acme, protocol.KindTenant, "acme").Type)
	_, err = try[protocol.Workflow](w, acme, protocol.VerbWorkflowCreate, protocol.CreateWorkflow{Name: "n", Spec: plain()})
	requireCode(t, err, protocol.CodeForbidden)
	do[protocol.Tenant](w, acme, protocol.VerbTenantUpdate, protocol.UpdateTenant{
		Status: ptr(protocol.StatusActive), Limits: &protocol.TenantLimits{RequestsPerMinute: ptr(7)},
	})
	got, err := w.store.GetTenant(t.Context(), acme)
	require.NoError(t, err)
	require.Equal(t, 7, *got.Limits.RequestsPerMinute)
	all, err := w.store.ListTenants(t.Context(), protocol.ListTenantsRequest{Page: protocol.Page{Limit: 1}})
	require.NoError(t, err)
	require.EqualValues(t, 2, all.Total)
	require.True(t, all.HasMore)
	require.Equal(t, beta, all.Items[0].ID)

	// Every write is in the audit, none with a hash.
	raw, err := json.Marshal(w.audit(acme))
	require.NoError(t, err)
	require.NotContains(t, string(raw), hash)
	require.NotContains(t, string(raw), second)
	var actions []string
	for _, a := range w.audit(acme) {
		actions = append(actions, a.Action)
		require.Equal(t, "key_tester", a.Actor)
		require.NotEmpty(t, a.After)
		require.NotEmpty(t, a.RequestID)
		if a.Action == "tenant_suspended" {
			require.Contains(t, string(a.Before), `"active"`)
			require.Contains(t, string(a.After), `"suspended"`)
		}
	}
	require.ElementsMatch(t, []string{
		"tenant_created", "key_created", "key_rotated", "key_updated", "key_revoked", "tenant_suspended", "tenant_resumed",
	}, actions)
}

func TestRefusedAccessIsAudited(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	acme := w.tenant("acme")
	at := protocol.At(time.Date(2026, 5, 1, 12, 0, 10, 0, time.UTC))
	for i := range 5 {
		_, err := w.recordAudit(t.Context(), protocol.RecordAuditRequest{
			Tenant: acme, Actor: "key_1", Reason: "key revoked", At: protocol.At(at.Add(time.Duration(i) * time.Second)),
		})
		require.NoError(t, err)
	}
	_, err := w.recordAudit(t.Context(), protocol.RecordAuditRequest{Tenant: acme, Actor: "key_1", Reason: "key revoked", At: protocol.At(at.Add(time.Minute))})
	require.NoError(t, err)
	l, err := w.store.ListAudit(t.Context(), protocol.ListAuditRequest{Tenant: acme, Action: protocol.ActionAccessRefused})
	require.NoError(t, err)
	require.Len(t, l.Items, 2, "one record a minute")
	require.Equal(t, "key revoked", l.Items[0].Reason)
}

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
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
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
