package service

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
	"github.com/agentflow/agentflow/services/catalog/internal/postgres"
)

// property is one thing of each kind that a tenant owns.
type property struct {
	workflow, source, key string
	execution             protocol.ExecutionID
}

func (w *world) furnish(t protocol.TenantID) property {
	w.t.Helper()
	w.tenant(t)
	source := "private-" + string(t)
	do[protocol.KeptSource](w, t, protocol.VerbSourceCreate, llm(source))
	wf := w.workflow(t, "secret plan of "+string(t), source)
	hash := fmt.Sprintf("%064x", []byte(t))
	key := do[protocol.Key](w, t, protocol.VerbKeyCreate, protocol.CreateKey{Name: "key of " + string(t), Hash: hash[len(hash)-64:]})
	run := w.start(t, protocol.Requested{WorkflowID: wf.ID, WorkflowName: "secret plan of " + string(t), Tags: []string{"tag-" + string(t)}})
	run.complete()
	w.settled()
	return property{workflow: wf.ID, source: source, key: key.ID, execution: run.key.ID}
}

// lookups are every repository function that takes an id, as tenant t asks for it.
func lookups(w *world, t protocol.TenantID, of property) map[string]func(ctx context.Context) (any, error) {
	s := w.store
	return map[string]func(ctx context.Context) (any, error){
		"GetWorkflow":   func(ctx context.Context) (any, error) { return s.GetWorkflow(ctx, t, of.workflow, 0) },
		"GetWorkflow/1": func(ctx context.Context) (any, error) { return s.GetWorkflow(ctx, t, of.workflow, 1) },
		"GetSource":     func(ctx context.Context) (any, error) { return s.GetSource(ctx, t, of.source) },
		"GetKey":        func(ctx context.Context) (any, error) { return s.GetKey(ctx, t, of.key) },
		"GetExecution":  func(ctx context.Context) (any, error) { return s.GetExecution(ctx, t, of.execution) },
		"GetExecution/ref": func(ctx context.Context) (any, error) {
			return w.getExecution(ctx, protocol.GetExecutionRequest{Tenant: t, ID: of.execution})
		},
		"ListWorkflowVersions": func(ctx context.Context) (any, error) {
			return s.ListWorkflowVersions(ctx, protocol.ListWorkflowVersionsRequest{Tenant: t, ID: of.workflow})
		},
		"ListExecutions/workflow": func(ctx context.Context) (any, error) {
			return s.ListExecutions(ctx, protocol.ListExecutionsRequest{Tenant: t, WorkflowID: of.workflow})
		},
		"GetExecutionCommits": func(ctx context.Context) (any, error) {
			return w.getCommits(ctx, protocol.GetExecutionCommitsRequest{Tenant: t, ID: of.execution})
		},
		"GetStats/workflow": func(ctx context.Context) (any, error) {
			return s.GetStats(ctx, protocol.GetStatsRequest{Tenant: t, WorkflowID: of.workflow})
		},
	}
}

// writes are every command that takes an id.
func writes(of property) map[protocol.Verb]any {
	return map[protocol.Verb]any{
		protocol.VerbWorkflowUpdate: protocol.UpdateWorkflow{ID: of.workflow, Name: ptr("mine now")},
		protocol.VerbWorkflowDelete: protocol.DeleteWorkflow{ID: of.workflow},
		protocol.VerbSourceUpdate:   protocol.UpdateSource{ID: of.source, Name: ptr("mine now")},
		protocol.VerbSourceDelete:   protocol.DeleteSource{ID: of.source},
		protocol.VerbKeyUpdate:      protocol.UpdateKey{ID: of.key, Name: ptr("mine now")},
		protocol.VerbKeyRotate:      protocol.RotateKey{ID: of.key, Hash: strings.Repeat("12", 32)},
		protocol.VerbKeyRevoke:      protocol.RevokeKey{ID: of.key},
	}
}

// lists are every repository function that lists, sums up or searches.
func lists(w *world, t protocol.TenantID) map[string]func(ctx context.Context) (any, error) {
	s := w.store
	return map[string]func(ctx context.Context) (any, error){
		"ListWorkflows": func(ctx context.Context) (any, error) {
			return s.ListWorkflows(ctx, protocol.ListWorkflowsRequest{Tenant: t})
		},
		"ListWorkflows/search": func(ctx context.Context) (any, error) {
			return s.ListWorkflows(ctx, protocol.ListWorkflowsRequest{Tenant: t, Search: "secret plan"})
		},
		"ListWorkflows/status": func(ctx context.Context) (any, error) {
			return s.ListWorkflows(ctx, protocol.ListWorkflowsRequest{Tenant: t, Status: protocol.WorkflowDraft})
		},
		"ListSources": func(ctx context.Context) (any, error) {
			return s.ListSources(ctx, protocol.ListSourcesRequest{Tenant: t})
		},
		"ListKeys": func(ctx context.Context) (any, error) { return s.ListKeys(ctx, protocol.ListKeysRequest{Tenant: t}) },
		"ListExecutions": func(ctx context.Context) (any, error) {
			return s.ListExecutions(ctx, protocol.ListExecutionsRequest{Tenant: t})
		},
		"ListAudit": func(ctx context.Context) (any, error) { return s.ListAudit(ctx, protocol.ListAuditRequest{Tenant: t}) },
		"GetStats":  func(ctx context.Context) (any, error) { return s.GetStats(ctx, protocol.GetStatsRequest{Tenant: t}) },
		"GetTenant": func(ctx context.Context) (any, error) { return s.GetTenant(ctx, t) },
		"ListExecutions/tag": func(ctx context.Context) (any, error) {
			return s.ListExecutions(ctx, protocol.ListExecutionsRequest{Tenant: t, Tag: "tag-acme"})
		},
	}
}

// platformFunctions work for the whole platform and are never called on a tenant's behalf; the
// rest of the store is its machinery.
var platformFunctions = []string{
	"ListTenants", "Checkpoint", "Checkpoints", "CatalogSeqs", "ArchivedAfter", "ArchivedPartitions", "ArchivedDays", "Needed", "PrepareDays",
	"ExpireExecutions", "ExpireDays", "ExpireCommits", "ExpireRefusals", "OldestExecution", "Swap", "DropSchema", "Compare", "Count",
	"Platform", "Tenant", "Lead", "Close", "Ping", "Ready", "Collector",
	// Exists tells what it tells on purpose; Refuse and RecordAudit only add to the tenant's own.
	"Exists", "Refuse", "RecordAudit",
}

func TestTenantsAreApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	w.project()
	acme := w.furnish("acme")
	w.furnish("beta")

	covered := slices.Clone(platformFunctions)
	for name, ask := range lookups(w, "beta", acme) {
		covered = append(covered, strings.Split(name, "/")[0])
		answer, err := ask(t.Context())
		refusal := refusalOf(t, err, protocol.CodeForbidden)
		told, merr := json.Marshal([]any{answer, refusal})
		require.NoError(t, merr)
		for _, word := range []string{"secret plan", "key of acme", "tag-acme", "final_output", "gpt-4o-mini", "OPENAI"} {
			require.NotContains(t, string(told), word, name)
		}
		_, err = ask(t.Context())
		requireCode(t, err, protocol.CodeForbidden)
	}
	unknown := property{
		workflow: "wf_00000000000000000000000000", source: "nobody", key: "key_00000000000000000000000000", execution: "exec_00000000000000000000000000",
	}
	for _, bad := range []property{unknown, {workflow: acme.key, source: acme.workflow, key: acme.source, execution: protocol.ExecutionID(acme.key)}, {
		workflow: "a\x00", source: "\xff", key: strings.Repeat("x", 10_000), execution: "'; drop table workflows; --",
	}} {
		for name, ask := range lookups(w, "beta", bad) {
			_, err := ask(t.Context())
			requireCode(t, err, protocol.CodeNotFound)
			_ = name
		}
	}
	for verb, data := range writes(acme) {
		_, err := try[any](w, "beta", verb, data)
		requireCode(t, err, protocol.CodeForbidden)
	}
	for verb, data := range writes(unknown) {
		_, err := try[any](w, "beta", verb, data)
		requireCode(t, err, protocol.CodeNotFound)
	}
	for name, ask := range lists(w, "beta") {
		covered = append(covered, strings.Split(name, "/")[0])
		answer, err := ask(t.Context())
		require.NoError(t, err, name)
		told, err := json.Marshal(answer)
		require.NoError(t, err)
		require.NotContains(t, string(told), "acme", name)
		if name != "ListExecutions/tag" && name != "GetStats" {
			require.Contains(t, string(told), "beta", name)
		}
	}
	// A source of another tenant cannot be used either.
	_, err := try[any](w, "beta", protocol.VerbWorkflowCreate, protocol.CreateWorkflow{Name: "thief", Spec: plain(acme.source)})
	requireCode(t, err, protocol.CodeWorkflowInvalid)
	// Nothing happened to what was asked for.
	for name, ask := range lookups(w, "acme", acme) {
		_, err := ask(t.Context())
		require.NoError(t, err, name)
	}

	store := reflect.TypeFor[*postgres.Store]()
	for i := range store.NumMethod() {
		require.Contains(t, covered, store.Method(i).Name, "a new repository function needs its place in this test")
	}
}

// The same id in two tenants: two sources, each with its owner.
func TestSameSourceIDInTwoTenants(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	for _, tenant := range []protocol.TenantID{"acme", "beta"} {
		w.tenant(tenant)
		src := llm("main")
		src.Config["model"] = "model-of-" + string(tenant)
		do[protocol.KeptSource](w, tenant, protocol.VerbSourceCreate, src)
	}
	for _, tenant := range []protocol.TenantID{"acme", "beta"} {
		src, err := w.store.GetSource(t.Context(), tenant, "main")
		require.NoError(t, err)
		require.Equal(t, "model-of-"+string(tenant), src.Config["model"])
	}
	// Ids that a tenant brings along cannot reach into another's rows.
	made := w.workflow("acme", "n")
	theft := do[protocol.Workflow](w, "beta", protocol.VerbWorkflowCreate, protocol.CreateWorkflow{ID: made.ID, Name: "theft", Spec: plain()})
	require.Equal(t, made.ID, theft.ID)
	mine, err := w.store.GetWorkflow(t.Context(), "acme", made.ID, 0)
	require.NoError(t, err)
	require.Equal(t, "n", mine.Name)
}

// Whatever two tenants do in whatever order, neither ever sees a row of the other.
func TestInterleavedTenants(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{partitions: 1})
	w.project()
	tenants := []protocol.TenantID{"left", "right"}
	for _, tenant := range tenants {
		w.tenant(tenant)
	}
	// Ids of both, so that each asks for the other's too.
	var workflows []string
	var executions []protocol.ExecutionID
	seen := func(t *rapid.T, tenant protocol.TenantID, answer any, err error) {
		var refusal *protocol.Error
		if err != nil {
			require.ErrorAs(t, err, &refusal)
		}
		told, merr := json.Marshal([]any{answer, refusal})
		require.NoError(t, merr)
		for _, other := range tenants {
			if other != tenant {
				require.NotContains(t, string(told), "of "+string(other), "%s sees %s", tenant, other)
				require.NotContains(t, string(told), `"tenant_id":"`+string(other)+`"`)
			}
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		for range rapid.IntRange(1, 6).Draw(rt, "calls") {
			tenant := rapid.SampledFrom(tenants).Draw(rt, "tenant")
			name := "thing of " + string(tenant)
			switch call := rapid.IntRange(0, 9).Draw(rt, "call"); {
			case call == 0:
				made := w.workflow(tenant, name)
				workflows = append(workflows, made.ID)
			case call == 1:
				src := protocol.CreateSource{Source: workflow.Source{ID: "shared", Kind: "api", Config: map[string]any{"base_url": "http://x/of " + string(tenant)}}, Replace: true}
				answer, err := try[protocol.KeptSource](w, tenant, protocol.VerbSourceCreate, src)
				seen(rt, tenant, answer, err)
			case call == 2:
				r := w.start(tenant, protocol.Requested{WorkflowName: name, Tags: []string{"of " + string(tenant)}})
				executions = append(executions, r.key.ID)
			case call == 3 && len(workflows) > 0:
				id := rapid.SampledFrom(workflows).Draw(rt, "workflow")
				answer, err := try[protocol.Workflow](w, tenant, protocol.VerbWorkflowUpdate, protocol.UpdateWorkflow{ID: id, Description: ptr(name)})
				seen(rt, tenant, answer, err)
			case call == 4 && len(workflows) > 0:
				answer, err := w.store.GetWorkflow(w.t.Context(), tenant, rapid.SampledFrom(workflows).Draw(rt, "workflow"), 0)
				seen(rt, tenant, answer, err)
			case call == 5 && len(executions) > 0:
				answer, err := w.store.GetExecution(w.t.Context(), tenant, rapid.SampledFrom(executions).Draw(rt, "execution"))
				seen(rt, tenant, answer.Execution, err)
			default:
				all := lists(w, tenant)
				names := make([]string, 0, len(all))
				for name := range all {
					names = append(names, name)
				}
				slices.Sort(names)
				answer, err := all[rapid.SampledFrom(names).Draw(rt, "list")](w.t.Context())
				seen(rt, tenant, answer, err)
			}
		}
	})
}
