package service

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/protocol"
)

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
