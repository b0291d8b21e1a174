package observe_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/typeid"
	"github.com/agentflow/agentflow/test/platform"
)

// The same error has the same code wherever it is met: in the answer over HTTP, in what the service says over NATS, and in
// what is kept of an execution.
func testCodes(t *testing.T, p *platform.Platform) {
	t.Helper()
	b, err := bus.Connect(t.Context(), bus.Config{URL: p.Ready().NATSURL, Partitions: protocol.DefaultParts, Replicas: 1, Name: "test"})
	require.NoError(t, err)
	t.Cleanup(b.Close)

	tenant := protocol.TenantID(p.Ready().Tenant)
	spec := object{"start_node": "a", "nodes": []object{{"id": "a", "type": "input"}}}
	answer := p.Call(t, http.MethodPost, "/workflows", object{"spec": spec, "name": "coded"})
	require.Equal(t, http.StatusCreated, answer.Status, "%s", answer.Body)
	mine, _ := answer.JSON(t)["id"].(string)
	keep := object{"id": "coded", "kind": "api", "config": object{"base_url": "https://api.example.com"}}
	answer = p.Call(t, http.MethodPost, "/sources", keep)
	require.Equal(t, http.StatusCreated, answer.Status, "%s", answer.Body)
	admin := p.As(p.Ready().AdminKey)
	answer = admin.Call(t, http.MethodPost, "/tenants", object{"id": "coded"})
	require.Equal(t, http.StatusCreated, answer.Status, "%s", answer.Body)
	const missing = "wf_01m832hgphea5r6hrcmhkrw9ab"
	literal := object{"id": "leak", "kind": "llm", "config": object{"provider": "openai", "model": "m", "api_key": "sk-planted"}}
	broken := object{"start_node": "a", "nodes": []object{{"id": "a", "type": "llm"}}}

	for _, c := range []struct {
		code   protocol.Code
		client platform.Client
		method string
		path   string
		body   any
		header string // If-Match
		wire   error
	}{
		{protocol.CodeNotFound, p.Client, http.MethodGet, "/workflows/" + missing, nil, "", asked(t, b, protocol.GetWorkflow, protocol.GetWorkflowRequest{Tenant: tenant, ID: missing})},
		{protocol.CodeForbidden, admin, http.MethodGet, "/workflows/" + mine, nil, "", asked(t, b, protocol.GetWorkflow, protocol.GetWorkflowRequest{Tenant: "coded", ID: mine})},
		{protocol.CodeNotFound, admin, http.MethodGet, "/tenants/nobody", nil, "", asked(t, b, protocol.GetTenant, protocol.GetTenantRequest{Tenant: "nobody"})},
		{protocol.CodeInvalid, p.Client, http.MethodPost, "/sources", literal, "", sent(t, b, tenant, protocol.VerbSourceCreate, literal)},
		{protocol.CodeConflict, p.Client, http.MethodPost, "/sources", keep, "", sent(t, b, tenant, protocol.VerbSourceCreate, keep)},
		{protocol.CodeConflict, admin, http.MethodPost, "/tenants", object{"id": "coded"}, "", sent(t, b, "coded", protocol.VerbTenantCreate, object{})},
		{
			protocol.CodeVersionMismatch, p.Client, http.MethodPut, "/workflows/" + mine,
			object{"name": "later"},
			`"7"`,
			sent(t, b, tenant, protocol.VerbWorkflowUpdate, object{"id": mine, "name": "later", "if_match": 7}),
		},
		{
			protocol.CodeNotFound, p.Client, http.MethodDelete, "/sources/nothing", nil, "",
			sent(t, b, tenant, protocol.VerbSourceDelete, object{"id": "nothing"}),
		},
		{
			protocol.CodeWorkflowInvalid, p.Client, http.MethodPost, "/workflows",
			object{"spec": broken, "status": "published"},
			"",
			sent(t, b, tenant, protocol.VerbWorkflowCreate, object{"spec": broken, "status": "published"}),
		},
		{protocol.CodeInvalid, p.Client, http.MethodGet, "/executions?limit=1000", nil, "", asked(t, b, protocol.ListExecutions, protocol.ListExecutionsRequest{Tenant: tenant, Page: protocol.Page{Limit: 1000}})},
	} {
		headers := []string{}
		if c.header != "" {
			headers = append(headers, "If-Match", c.header)
		}
		if c.client == admin {
			headers = append(headers, "X-Tenant-ID", "coded")
		}
		answer := c.client.Call(t, c.method, c.path, c.body, headers...)
		require.Equal(t, string(c.code), answer.JSON(t)["code"], "%s %s: %s", c.method, c.path, answer.Body)
		require.Equal(t, c.code, protocol.CodeOf(c.wire), "%s %s over NATS: %v", c.method, c.path, c.wire)
	}
	err = asked(t, b, protocol.AcquireLimit, protocol.AcquireRequest{Tenant: tenant})
	require.Equal(t, protocol.CodeInvalid, protocol.CodeOf(err), "%v", err)

	// An execution: its answer, its record and its last event.
	for code, broken := range map[protocol.Code]object{
		protocol.CodeNodeFailed: {"start_node": "a", "nodes": []object{{"id": "a", "type": "input", "metadata": object{"validate": object{"required": true}}}}},
		protocol.CodeLoopLimit: {
			"start_node": "a", "nodes": []object{{"id": "a", "type": "input"}, {"id": "b", "type": "aggregator"}},
			"edges": []object{{"from": "a", "to": "b"}, {"from": "b", "to": "a"}},
		},
	} {
		answer := p.Call(t, http.MethodPost, "/workflows/execute", object{"workflow": broken})
		require.Equal(t, string(code), answer.JSON(t)["code"], "%s", answer.Body)
		id, _ := answer.JSON(t)["execution_id"].(string)
		require.Equal(t, string(code), p.Execution(t, id).Error.Code)
		events := p.Events(t, id)
		failure, _ := events[len(events)-1].Data["error"].(map[string]any)
		require.Equal(t, string(code), failure["code"])
	}
}

// asked is how a service answers a call; sent how it answers a command.
func asked[Req, Resp any](t *testing.T, b *bus.Bus, call protocol.Call[Req, Resp], req Req) error {
	t.Helper()
	_, err := bus.Request(t.Context(), b, call, req)
	return err
}

func sent(t *testing.T, b *bus.Bus, tenant protocol.TenantID, verb protocol.Verb, data object) error {
	t.Helper()
	body, err := json.Marshal(data)
	require.NoError(t, err)
	_, err = bus.SendCommand[any](t.Context(), b, protocol.Command{ID: typeid.New("cmd"), Tenant: tenant, Verb: verb, Actor: "test", At: protocol.At(time.Now()), Data: body})
	return err
}
