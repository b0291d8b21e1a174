package service

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/typeid"
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
