package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/test/fakeprovider"
	"github.com/agentflow/agentflow/test/platform"
)

// reach is how one endpoint can be asked for something by its id.
type reach struct {
	kind  string // of the id; "" for an endpoint that takes none
	body  any    // with %id% where the id stands in it
	admin bool   // only for administrators, whatever the id
	query string // a filter that names an id
	// status of an answer about another's id and about nobody's; 0 means 403 and 404
	foreign, unknown int
}

// reaches are all endpoints. Those under /api/v1 are tried as those without it.
var reaches = map[string]reach{
	"GET /": {}, "GET /health": {}, "GET /health/live": {}, "GET /health/ready": {}, "GET /limits": {},
	"GET /workflows/node-types": {}, "GET /workflows/source-types": {}, "GET /sources/types/available": {},
	"GET /workflows": {}, "GET /sources": {}, "DELETE /sources": {},

	"GET /workflows/{id}":            {kind: "workflow"},
	"PUT /workflows/{id}":            {kind: "workflow", body: object{"name": "mine now"}},
	"DELETE /workflows/{id}":         {kind: "workflow"},
	"GET /workflows/{id}/versions":   {kind: "workflow"},
	"GET /workflows/{id}/stats":      {kind: "workflow"},
	"GET /workflows/{id}/executions": {kind: "workflow"},
	"POST /workflows/{id}/execute":   {kind: "workflow", body: object{}},
	"POST /workflows/execute":        {kind: "workflow", body: object{"workflow_id": "%id%"}},
	// To use a source one must keep it: another's is as unknown as nobody's.
	"POST /workflows":          {kind: "source", body: object{"name": "thief", "spec": naming("%id%")}, foreign: 400, unknown: 400},
	"POST /workflows/validate": {kind: "source", body: object{"workflow": naming("%id%")}, foreign: 200, unknown: 200},
	"POST /workflows/build":    {kind: "source", body: object{"workflow": naming("%id%")}, foreign: 400, unknown: 400},

	"GET /sources/{id}":       {kind: "source"},
	"PUT /sources/{id}":       {kind: "source", body: object{"name": "mine now"}},
	"DELETE /sources/{id}":    {kind: "source"},
	"POST /sources/{id}/test": {kind: "source"},
	// An id that another uses is free: it becomes a source of one's own.
	"POST /sources": {kind: "name", body: object{"id": "%id%", "kind": "llm", "config": object{"provider": "echo", "model": "own"}}, foreign: 201, unknown: 201},

	"GET /executions":              {kind: "workflow", query: "?workflow_id="},
	"GET /executions/{id}":         {kind: "execution"},
	"GET /executions/{id}/events":  {kind: "execution"},
	"POST /executions/{id}/cancel": {kind: "execution"},
	"POST /executions/{id}/rerun":  {kind: "execution"},

	// What never passed is not counted: a queue of another is a queue that nobody has used.
	"GET /queues/{id}/usage": {kind: "queue", foreign: 200, unknown: 200},
	"GET /audit":             {kind: "workflow", query: "?id=", foreign: 200, unknown: 200},

	"GET /tenants": {admin: true}, "GET /keys": {admin: true, kind: "tenant", query: "?tenant_id="},
	"POST /tenants":          {admin: true, kind: "tenant", body: object{"id": "%id%"}},
	"GET /tenants/{id}":      {admin: true, kind: "tenant"},
	"PUT /tenants/{id}":      {admin: true, kind: "tenant", body: object{"status": "suspended"}},
	"POST /keys":             {admin: true, kind: "tenant", body: object{"tenant_id": "%id%", "name": "mine"}},
	"GET /keys/{id}":         {admin: true, kind: "key"},
	"PUT /keys/{id}":         {admin: true, kind: "key", body: object{"name": "mine"}},
	"DELETE /keys/{id}":      {admin: true, kind: "key"},
	"POST /keys/{id}/rotate": {admin: true, kind: "key"},
}

// naming is a workflow that names a kept source.
func naming(source string) object {
	return object{"start_node": "ask", "nodes": []any{object{"id": "ask", "type": "llm", "metadata": object{"source_id": source, "prompt": "x"}}}}
}

// TestEveryEndpointKeepsTenantsApart walks the endpoints that the platform documents. A key of one tenant with ids of
// another gets 403 and learns nothing else, with ids of nobody 404; and what the other has stays as it was.
func TestEveryEndpointKeepsTenantsApart(t *testing.T) {
	t.Parallel()
	outside := fakeprovider.New(t, nil)
	p := platform.Start(t, platform.Options{Env: []string{
		"AUTH_REQUIRED=true", "LOG_LEVEL=warn", "TENANT_ACME_MODEL=acme-" + modelKey, "TENANT_GLOBEX_MODEL=globex-" + modelKey,
	}})
	acme, globex := found(t, p, "acme"), found(t, p, "globex")
	acme.settle(t, outside)
	for _, id := range []string{"private-of-acme", "taken"} {
		a := acme.Call(t, http.MethodPost, "/sources", object{"id": id, "kind": "llm", "config": object{"provider": "echo", "model": "model-of-acme"}})
		require.Equal(t, http.StatusCreated, a.Status, "%s", a.Body)
	}

	foreign := map[string]string{
		"workflow": acme.workflow, "execution": acme.execution, "source": "private-of-acme", "queue": acme.workflow + "/line", "tenant": "acme", "key": acme.keyID,
		"name": "taken",
	}
	unknown := map[string]string{
		"workflow": "wf_01jd2v8m6hf5qrgq2s9n0w3x4y", "execution": "exec_01jd2v8m6hf5qrgq2s9n0w3x4y", "source": "nobodys",
		"queue": "wf_01jd2v8m6hf5qrgq2s9n0w3x4y/line", "tenant": "nobody", "key": "key_01jd2v8m6hf5qrgq2s9n0w3x4y",
		"name": "free",
	}
	platform.Await(t, "the end of the execution in the list", func() bool { return len(acme.list(t, "/executions?status=COMPLETED")) == 1 })
	inventory := func() map[string]string {
		all := map[string]string{}
		for _, path := range []string{
			"/workflows/" + acme.workflow, "/executions/" + acme.execution, "/executions/" + acme.execution + "/events", "/sources/private-of-acme", "/sources/taken",
			"/sources", "/workflows", "/executions", "/audit?kind=workflow", "/audit?kind=source",
		} {
			all[path] = string(acme.Get(t, path).Body)
		}
		return all
	}
	before := inventory()

	var doc struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	p.Get(t, "/openapi.json").Decode(t, &doc)
	require.Greater(t, len(doc.Paths), 30)
	tried := map[string]bool{}
	for path, methods := range doc.Paths {
		for method := range methods {
			method = strings.ToUpper(method)
			name := method + " " + strings.TrimPrefix(path, "/api/v1")
			if strings.Count(name, "/") > 1 {
				name = strings.TrimSuffix(name, "/") // Phase 1 wrote one behind its lists
			}
			try, ok := reaches[name]
			require.True(t, ok, "a new endpoint needs its place in this test: %s", name)
			tried[name] = true
			for _, of := range []struct {
				ids       map[string]string
				status    int
				want      int
				wantAdmin int
			}{
				{foreign, try.foreign, http.StatusForbidden, http.StatusForbidden},
				{unknown, try.unknown, http.StatusNotFound, http.StatusForbidden},
			} {
				want := of.want
				switch {
				case try.admin:
					want = of.wantAdmin
				case of.status != 0:
					want = of.status
				case try.kind == "":
					want = http.StatusOK
				}
				id := of.ids[try.kind]
				at := strings.ReplaceAll(path, "{id}", id)
				if try.query != "" {
					at += try.query + id
				}
				a := globex.Call(t, method, at, filled(try.body, id))
				require.Equal(t, want, a.Status, "%s %s: %s", method, at, a.Body)
				if try.kind == "name" {
					require.Equal(t, http.StatusOK, globex.Call(t, http.MethodDelete, "/api/v1/sources/"+id, nil).Status)
				}
				for _, word := range []string{"flow of acme", "secret of", "model-of-acme", "MODEL", "acme company", "af_"} {
					require.NotContains(t, string(a.Body), word, "%s %s", method, at)
				}
				if a.Status == http.StatusForbidden {
					require.Empty(t, a.Header.Get("ETag"))
					require.Less(t, len(a.Body), 600, "%s %s: %s", method, at, a.Body)
				}
			}
		}
	}
	require.Len(t, tried, len(reaches), "every case is an endpoint")

	// What is neither 403 nor 404 is the same answer for another's id and for nobody's.
	for _, ask := range []string{"/audit?id=%id%", "/queues/%id%/usage"} {
		kind := reaches["GET "+strings.NewReplacer("?id=%id%", "", "%id%", "{id}").Replace(ask)].kind
		var answers []any
		for _, ids := range []map[string]string{foreign, unknown} {
			v := globex.Get(t, strings.ReplaceAll(ask, "%id%", ids[kind])).JSON(t)
			for _, of := range []string{"queue", "at", "at_us"} {
				delete(v, of)
			}
			answers = append(answers, v)
		}
		require.Equal(t, answers[0], answers[1], ask)
	}
	require.Equal(t, before, inventory(), "nothing happened to what was asked for")
	requireExpiryIsChanged(t, p, acme)
}

// filled is a body with an id in its place.
func filled(body any, id string) any {
	switch v := body.(type) {
	case map[string]any:
		out := object{}
		for k, e := range v {
			out[k] = filled(e, id)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = filled(e, id)
		}
		return out
	case string:
		return strings.ReplaceAll(v, "%id%", id)
	}
	return body
}

// requireExpiryIsChanged gives a key an end, takes it away again, and ends it.
func requireExpiryIsChanged(t *testing.T, p *platform.Platform, c company) {
	t.Helper()
	admin, path := p.As(p.Ready().AdminKey), "/keys/"+c.keyID+"?tenant_id="+c.id
	change := func(expires any) object {
		a := admin.Call(t, http.MethodPut, path, object{"expires_at": expires})
		require.Equal(t, http.StatusOK, a.Status, "%s", a.Body)
		return a.JSON(t)
	}
	require.NotEmpty(t, change(time.Now().Add(time.Hour))["expires_at"])
	named := admin.Call(t, http.MethodPut, path, object{"name": "named"}).JSON(t)
	require.NotEmpty(t, named["expires_at"], "what is left out stays")
	eternal := change(nil)
	require.Nil(t, eternal["expires_at"])
	require.Equal(t, "active", eternal["status"])
	for _, bad := range []any{"tomorrow", 7, "", object{}} {
		a := admin.Call(t, http.MethodPut, path, object{"expires_at": bad})
		require.Equal(t, http.StatusUnprocessableEntity, a.Status, "%v: %s", bad, a.Body)
		require.Contains(t, string(a.Body), "expires_at")
	}
	require.Equal(t, "expired", change("2020-01-01T00:00:00Z")["status"])
	platform.Await(t, "the end of the key", func() bool {
		return c.Call(t, http.MethodGet, "/workflows", nil).Status == http.StatusUnauthorized
	})
}
