package gateway_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// tenant makes a tenant with a key, through the API, and returns the key.
func (p *platform) tenant(id string, scopes ...string) string {
	p.t.Helper()
	a := p.call(http.MethodPost, "/tenants", `{"id":"`+id+`","name":"`+id+`"}`, "X-API-Key", adminKey)
	require.Equal(p.t, 201, a.status, "%s", a.body)
	key, _ := p.key(id, scopes...)
	return key
}

func (p *platform) key(tenant string, scopes ...string) (key, id string) {
	p.t.Helper()
	body := `{"tenant_id":"` + tenant + `","name":"test"}`
	if len(scopes) > 0 {
		body = `{"tenant_id":"` + tenant + `","name":"test","scopes":["` + strings.Join(scopes, `","`) + `"]}`
	}
	a := p.call(http.MethodPost, "/keys", body, "X-API-Key", adminKey)
	require.Equal(p.t, 201, a.status, "%s", a.body)
	v := a.json(p.t)
	require.NotContains(p.t, v, "hash")
	key, _ = v["key"].(string)
	id, _ = v["id"].(string)
	require.Len(p.t, key, 3+64, "af_ and 256 bits")
	p.eventually(key, 200)
	return key, id
}

// eventually waits until a gateway answers a key with a status.
func (p *platform) eventually(key string, status int, url ...string) {
	p.t.Helper()
	at := p.url
	if len(url) > 0 {
		at = url[0]
	}
	require.Eventually(p.t, func() bool {
		a := p.at(at, http.MethodGet, "/workflows/node-types", "", "X-API-Key", key)
		return a.status == status || status == 200 && a.status == 403 && strings.Contains(string(a.body), "scope")
	}, waitFor, tick)
}

func TestKeys(t *testing.T) {
	p := start(t)
	second := p.gateway()
	key, id := func() (string, string) { p.tenant("acme"); return p.key("acme") }()

	for _, open := range []string{"/", "/health", "/health/live", "/health/ready", "/openapi.json", "/docs", "/redoc"} {
		require.Equal(t, 200, p.call(http.MethodGet, open, "").status, open)
	}
	for _, path := range []string{"/workflows/execute", "/api/v1/workflows/execute"} {
		a := p.call(http.MethodPost, path, run)
		require.Equal(t, 401, a.status)
		require.Contains(t, a.header.Get("WWW-Authenticate"), "Bearer")
		require.Equal(t, 401, p.call(http.MethodPost, path, run, "X-API-Key", key[:len(key)-1]).status)
		require.Equal(t, 401, p.call(http.MethodPost, path, run, "X-API-Key", strings.Repeat("x", 10_000)).status)
		require.Equal(t, 200, p.call(http.MethodPost, path, run, "X-API-Key", key).status)
		require.Equal(t, 200, p.call(http.MethodPost, path, run, "Authorization", "Bearer "+key).status)
	}
	p.eventually(key, 200, second)

	// A revocation reaches every gateway, and the attempt is in the audit.
	require.Equal(t, 200, p.call(http.MethodDelete, "/keys/"+id+"?tenant_id=acme", "", "X-API-Key", adminKey).status)
	p.eventually(key, 401)
	p.eventually(key, 401, second)
	require.Eventually(t, func() bool {
		p.catalog.mu.Lock()
		defer p.catalog.mu.Unlock()
		return len(p.catalog.audit) > 0 && p.catalog.audit[0].Actor == id && p.catalog.audit[0].Tenant == "acme"
	}, waitFor, tick)

	// A suspended tenant's keys are all forbidden at once.
	other, _ := p.key("acme")
	require.Equal(t, 200, p.call(http.MethodPut, "/tenants/acme", `{"status":"suspended"}`, "X-API-Key", adminKey).status)
	p.eventually(other, 403)
	require.Equal(t, 200, p.call(http.MethodPut, "/tenants/acme", `{"status":"active"}`, "X-API-Key", adminKey).status)
	p.eventually(other, 200)
}

func TestExpiredKey(t *testing.T) {
	p := start(t)
	p.tenant("acme")
	status := func(key string) int {
		return p.call(http.MethodGet, "/workflows/node-types", "", "X-API-Key", key).status
	}
	// On a machine so slow that a key has expired before it was let in once, the next lives longer.
	for valid, held := time.Second, false; !held; valid *= 2 {
		require.Less(t, valid, waitFor, "no key was ever let in")
		end := time.Now().Add(valid).Truncate(time.Millisecond) // as the platform keeps it
		a := p.call(http.MethodPost, "/keys", `{"tenant_id":"acme","name":"short","expires_at":"`+end.UTC().Format(time.RFC3339Nano)+`"}`, "X-API-Key", adminKey)
		require.Equal(t, 201, a.status, "%s", a.body)
		key, _ := a.json(t)["key"].(string)
		require.Eventually(t, func() bool {
			held = held || status(key) == 200
			return held || time.Now().After(end)
		}, waitFor, tick)
		require.Eventually(t, func() bool { return status(key) == 401 }, waitFor, tick)
		require.True(t, time.Now().After(end), "not before its time")
	}
}

func TestScopes(t *testing.T) {
	p := start(t)
	reader := p.tenant("acme", protocol.ScopeWorkflowsRead)
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/workflows", "", 200},
		{"GET", "/api/v1/workflows", "", 200},
		{"POST", "/workflows/validate", pure, 200},
		{"POST", "/workflows", `{"spec":` + pure + `}`, 403},
		{"POST", "/workflows/execute", run, 403},
		{"POST", "/api/v1/workflows/execute", run, 403},
		{"GET", "/sources", "", 403},
		{"POST", "/api/v1/sources/", `{}`, 403},
		{"GET", "/executions/exec_01jd2v8m6hf5qrgq2s9n0w3x4y", "", 403},
		{"POST", "/executions/exec_01jd2v8m6hf5qrgq2s9n0w3x4y/cancel", "", 403},
		{"GET", "/tenants", "", 403},
		{"POST", "/keys", `{"tenant_id":"acme","name":"x"}`, 403},
	} {
		require.Equal(t, c.status, p.call(c.method, c.path, c.body, "X-API-Key", reader).status, "%s %s", c.method, c.path)
	}
	// A key cannot name another tenant; the platform's own key must name one.
	require.Equal(t, 403, p.call(http.MethodGet, "/workflows", "", "X-API-Key", reader, "X-Tenant-ID", "dev").status)
	require.Equal(t, 422, p.call(http.MethodGet, "/workflows", "", "X-API-Key", adminKey).status)
	require.Equal(t, 404, p.call(http.MethodGet, "/workflows", "", "X-API-Key", adminKey, "X-Tenant-ID", "nobody.*.>").status)
	require.Equal(t, 200, p.call(http.MethodGet, "/workflows", "", "X-API-Key", adminKey, "X-Tenant-ID", "acme").status)
}

// No scopes at all are not all of them: a program that has worked out an empty list gets no key that may do everything.
func TestAnEmptyListOfScopes(t *testing.T) {
	p := start(t)
	p.tenant("acme")
	_, id := p.key("acme")
	for _, c := range [][2]string{{http.MethodPost, "/keys"}, {http.MethodPut, "/keys/" + id + "?tenant_id=acme"}} {
		a := p.call(c[0], c[1], `{"tenant_id":"acme","name":"x","scopes":[]}`, "X-API-Key", adminKey)
		require.Equal(t, 422, a.status, "%s", a.body)
		require.Contains(t, string(a.body), `"body.scopes"`)
	}
}

// The scope admin is that of one tenant: its keys and its name. It is not the platform's own key.
func TestAdminOfATenant(t *testing.T) {
	p := start(t)
	p.tenant("theirs")
	admin := p.tenant("mine", "admin")
	_, foreign := p.key("theirs")
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/workflows", "", 200},
		{"GET", "/keys", "", 200},
		{"GET", "/keys?tenant_id=mine", "", 200},
		{"POST", "/keys", `{"tenant_id":"mine","name":"x"}`, 201},
		{"PUT", "/tenants/mine", `{"name":"ours"}`, 200},
		{"PUT", "/tenants/mine", `{"limits":{"max_messages_per_second":0}}`, 403},
		{"PUT", "/tenants/mine", `{"status":"active"}`, 403},
		{"GET", "/tenants", "", 403},
		{"POST", "/tenants", `{"id":"new"}`, 403},
		{"GET", "/tenants/theirs", "", 403},
		{"GET", "/tenants/nobody", "", 403},
		{"PUT", "/tenants/theirs", `{"name":"x"}`, 403},
		{"PUT", "/tenants/theirs", `{"status":"suspended"}`, 403},
		{"POST", "/keys", `{"tenant_id":"theirs","name":"x"}`, 403},
		{"GET", "/keys?tenant_id=theirs", "", 403},
		{"GET", "/keys/" + foreign + "?tenant_id=theirs", "", 403},
		{"PUT", "/keys/" + foreign + "?tenant_id=theirs", `{"name":"x"}`, 403},
		{"POST", "/keys/" + foreign + "/rotate?tenant_id=theirs", "", 403},
		{"DELETE", "/keys/" + foreign + "?tenant_id=theirs", "", 403},
	} {
		a := p.call(c.method, c.path, c.body, "X-API-Key", admin)
		require.Equal(t, c.status, a.status, "%s %s: %s", c.method, c.path, a.body)
	}
	require.Equal(t, 403, p.call(http.MethodGet, "/workflows", "", "X-API-Key", admin, "X-Tenant-ID", "theirs").status)
	require.Eventually(t, func() bool {
		p.catalog.mu.Lock()
		defer p.catalog.mu.Unlock()
		return len(p.catalog.audit) > 0 && p.catalog.audit[0].Tenant == "mine"
	}, waitFor, tick, "what was refused is in the audit of the key's tenant")
}

func TestTenantsApart(t *testing.T) {
	p := start(t)
	mine, theirs := p.tenant("mine"), p.tenant("theirs")
	a := p.call(http.MethodPost, "/workflows", `{"name":"secret","spec":`+pure+`}`, "X-API-Key", mine)
	require.Equal(t, 201, a.status, "%s", a.body)
	wf, _ := a.json(t)["id"].(string)
	exec := executionOf(t, p.call(http.MethodPost, "/workflows/"+wf+"/execute", "", "X-API-Key", mine))
	p.catalog.mu.Lock()
	p.catalog.archive[protocol.ExecutionID(exec)] = protocol.Execution{ID: protocol.ExecutionID(exec), Tenant: "mine", Status: "COMPLETED"}
	p.catalog.mu.Unlock()

	for _, c := range [][3]string{
		{"GET", "/workflows/" + wf, ""},
		{"POST", "/workflows/" + wf + "/execute", ""},
		{"POST", "/workflows/execute", `{"workflow_id":"` + wf + `"}`},
		{"POST", "/api/v1/workflows/execute", `{"workflow_id":"` + wf + `"}`},
		{"GET", "/executions/" + exec, ""},
		{"GET", "/executions/" + exec + "/events", ""},
		{"POST", "/executions/" + exec + "/cancel", ""},
	} {
		a := p.call(c[0], c[1], c[2], "X-API-Key", theirs)
		require.Equal(t, 403, a.status, "%s %s: %s", c[0], c[1], a.body)
		require.NotContains(t, string(a.body), "secret")
	}
	require.Empty(t, p.call(http.MethodGet, "/workflows", "", "X-API-Key", theirs).json(t)["items"])
	require.Equal(t, 200, p.call(http.MethodGet, "/executions/"+exec, "", "X-API-Key", mine).status)
}

func TestWithoutKeys(t *testing.T) {
	p := start(t, withoutKeys)
	require.Equal(t, 200, p.call(http.MethodPost, "/api/v1/workflows/execute", run).status)
	require.Equal(t, 401, p.call(http.MethodPost, "/api/v1/workflows/execute", run, "X-API-Key", "wrong").status, "a wrong key is not no key")
	require.Equal(t, 403, p.call(http.MethodGet, "/tenants", "").status, "nobody is an administrator without the key")
}

func TestRepeatedKeyCreation(t *testing.T) {
	p := start(t)
	p.tenant("acme")
	body := `{"tenant_id":"acme","name":"once"}`
	first := p.call(http.MethodPost, "/keys", body, "X-API-Key", adminKey, "Idempotency-Key", "k")
	require.Equal(t, 201, first.status, "%s", first.body)
	second := p.call(http.MethodPost, "/keys", body, "X-API-Key", adminKey, "Idempotency-Key", "k")
	require.Equal(t, 409, second.status, "%s", second.body)
	require.NotContains(t, string(second.body), "af_", "no secret that opens nothing")

	// A write is carried out once, and answers the same.
	wf := func() answer {
		return p.call(http.MethodPost, "/workflows", `{"spec":`+pure+`}`, "X-API-Key", adminKey, "X-Tenant-ID", "acme", "Idempotency-Key", "w")
	}
	require.Equal(t, string(wf().body), string(wf().body))
}
