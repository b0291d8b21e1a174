package e2e

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/test/fakeprovider"
	"github.com/agentflow/agentflow/test/platform"
)

// company is a tenant with all that it has.
type company struct {
	platform.Client
	id        string
	keyID     string
	workflow  string
	execution string
}

// found makes a tenant, as the holder of the admin key does.
func found(t *testing.T, p *platform.Platform, id string) company {
	t.Helper()
	if len(attached) > 0 {
		id += "-" + strings.ToLower(rand.Text()[:6]) // the platform has seen this test before, by another gateway
	}
	admin := p.As(p.Ready().AdminKey)
	a := admin.Call(t, http.MethodPost, "/tenants", object{"id": id, "name": "The " + id + " company"})
	require.Equal(t, http.StatusCreated, a.Status, "%s", a.Body)
	a = admin.Call(t, http.MethodPost, "/keys", object{"name": "everything", "tenant_id": id})
	require.Equal(t, http.StatusCreated, a.Status, "%s", a.Body)
	key := a.JSON(t)
	secret, _ := key["key"].(string)
	require.Regexp(t, "^af_", secret)
	c := company{Client: p.As(secret), id: id, keyID: key["id"].(string)}
	platform.Await(t, "the key of "+id, func() bool {
		return c.Call(t, http.MethodGet, "/workflows", nil).Status == http.StatusOK
	})
	return c
}

// TestTenants: of two tenants on a platform that demands keys, neither sees, runs, changes or guesses what the other has.
func TestTenants(t *testing.T) {
	t.Parallel()
	outside := fakeprovider.New(t, nil)
	p := platform.Start(t, platform.Options{Env: []string{
		"AUTH_REQUIRED=true", "LOG_LEVEL=warn", "TENANT_ACME_MODEL=acme-" + modelKey, "TENANT_GLOBEX_MODEL=globex-" + modelKey,
	}})

	for _, path := range []string{"/", "/health", "/health/live", "/health/ready", "/docs", "/redoc", "/openapi.json"} {
		require.Equal(t, http.StatusOK, p.Call(t, http.MethodGet, path, nil).Status, "%s is open", path)
	}
	for _, key := range []string{"", "wrong", "af_0000000000000000000000000000000000000000000000000000000000000000"} {
		for _, path := range []string{"/workflows", "/api/v1/workflows", "/api/v1/sources/", "/executions", "/tenants", "/workflows/node-types", "/api/v1/workflows/node-types"} {
			a := p.As(key).Call(t, http.MethodGet, path, nil)
			require.Equal(t, http.StatusUnauthorized, a.Status, "%s with key %q: %s", path, key, a.Body)
			require.NotEmpty(t, a.Header.Get("WWW-Authenticate"))
		}
		a := p.As(key).Call(t, http.MethodPost, "/api/v1/workflows/execute", object{"workflow": pureWorkflow})
		require.Equal(t, http.StatusUnauthorized, a.Status)
		require.Contains(t, a.JSON(t), "detail")
	}

	acme, globex := found(t, p, "acme"), found(t, p, "globex")
	for _, c := range []*company{&acme, &globex} {
		c.settle(t, outside)
	}
	asked := outside.Requests()
	require.Len(t, asked, 2)
	require.Equal(t, []string{"acme-" + modelKey, "globex-" + modelKey}, []string{asked[0].Key, asked[1].Key}, "each used its own key")

	for _, pair := range [][2]company{{acme, globex}, {globex, acme}} {
		requireApart(t, pair[0], pair[1])
	}
	requireRowPolicies(t, p, acme, globex)

	// What one may name the other may not, though both stand in the environment.
	a := globex.Call(t, http.MethodPost, "/workflows/execute", object{
		"workflow": asking(outside, "TENANT_ACME_MODEL"), "initial_state": object{"user_input": "hello"},
	})
	require.Equal(t, http.StatusInternalServerError, a.Status)
	require.Contains(t, string(a.Body), "another tenant")
	require.NotContains(t, string(a.Body), modelKey)
	require.Len(t, outside.Requests(), 2)

	// Neither is an administrator.
	for _, c := range []company{acme, globex} {
		require.Equal(t, http.StatusForbidden, c.Call(t, http.MethodGet, "/tenants", nil).Status)
		require.Equal(t, http.StatusForbidden, c.Call(t, http.MethodPost, "/keys", object{"name": "x"}).Status)
		require.Equal(t, http.StatusForbidden, c.Call(t, http.MethodGet, "/workflows", nil, "X-Tenant-ID", "dev").Status)
	}

	// A key that is revoked, and a tenant that is suspended, are out at once.
	admin := p.As(p.Ready().AdminKey)
	require.Equal(t, http.StatusOK, admin.Call(t, http.MethodDelete, "/keys/"+acme.keyID+"?tenant_id=acme", nil).Status)
	platform.Await(t, "the end of the key", func() bool {
		return acme.Call(t, http.MethodGet, "/workflows", nil).Status == http.StatusUnauthorized
	})
	require.Equal(t, http.StatusOK, admin.Call(t, http.MethodPut, "/tenants/globex", object{"status": "suspended"}).Status)
	platform.Await(t, "the suspension", func() bool {
		return globex.Call(t, http.MethodGet, "/workflows", nil).Status == http.StatusForbidden
	})
}

// asking is a workflow of one model, by a variable.
func asking(outside *fakeprovider.Server, variable string) object {
	return object{
		"start_node": "ask",
		"nodes":      []any{object{"id": "ask", "type": "llm", "metadata": object{"source_id": "own", "prompt_template": "{user_input}"}}},
		"sources": []any{object{"id": "own", "kind": "llm", "config": object{
			"provider": "openai", "model": "gpt-4o-mini", "base_url": outside.OpenAI(), "api_key_env": variable,
		}}},
	}
}

// settle gives the tenant a source, a workflow and an execution. Ids are the same for all where the tenant may choose.
func (c *company) settle(t *testing.T, outside *fakeprovider.Server) {
	t.Helper()
	variable := map[string]string{"acme": "TENANT_ACME_MODEL", "globex": "TENANT_GLOBEX_MODEL"}[c.id]
	a := c.Call(t, http.MethodPost, "/api/v1/sources/", object{"id": "model", "kind": "llm", "config": object{
		"provider": "openai", "model": "model-of-" + c.id, "base_url": outside.OpenAI(), "api_key_env": variable,
	}})
	require.Equal(t, http.StatusCreated, a.Status, "%s", a.Body)
	a = c.Call(t, http.MethodPost, "/workflows", object{"name": "flow of " + c.id, "spec": object{
		"start_node": "ask",
		"nodes":      []any{object{"id": "ask", "type": "llm", "metadata": object{"source_id": "model", "prompt_template": "{user_input}"}}},
	}})
	require.Equal(t, http.StatusCreated, a.Status, "%s", a.Body)
	c.workflow = a.JSON(t)["id"].(string)
	a = c.Call(t, http.MethodPost, "/workflows/"+c.workflow+"/execute", object{"initial_state": object{"user_input": "secret of " + c.id}})
	require.Equal(t, http.StatusOK, a.Status, "%s", a.Body)
	c.execution = a.JSON(t)["execution_id"].(string)
	platform.Await(t, "the execution in the list", func() bool { return len(c.list(t, "/executions")) == 1 })
}

// list is the ids of a list. A page and its total are two queries: while something is being brought into the tables they
// may be of two moments.
func (c company) list(t *testing.T, path string) []string {
	t.Helper()
	var ids []string
	platform.Await(t, "a page and its total to agree", func() bool {
		var page struct {
			Items []object `json:"items"`
			Total int      `json:"total"`
		}
		c.Get(t, path).Decode(t, &page)
		ids = make([]string, 0, len(page.Items))
		for _, item := range page.Items {
			require.Equal(t, c.id, item["tenant_id"])
			ids = append(ids, item["id"].(string))
		}
		return len(ids) == page.Total
	})
	return ids
}

// requireApart tries all that me could do to what other has.
func requireApart(t *testing.T, me, other company) {
	t.Helper()
	require.Equal(t, []string{me.workflow}, me.list(t, "/workflows"))
	require.Equal(t, []string{me.execution}, me.list(t, "/executions"))
	require.Equal(t, []string{"model"}, me.list(t, "/sources"))
	a := me.Get(t, "/api/v1/sources/model")
	require.Equal(t, "model-of-"+me.id, a.JSON(t)["config"].(object)["model"], "the same id is another source")
	require.NotContains(t, string(me.Get(t, "/workflows").Body), other.id)

	const unknownWorkflow, unknownExecution = "wf_01jd2v8m6hf5qrgq2s9n0w3x4y", "exec_01jd2v8m6hf5qrgq2s9n0w3x4y"
	for _, try := range []struct {
		method, path string
		body         any
	}{
		{http.MethodGet, "/workflows/%s", nil},
		{http.MethodGet, "/api/v1/workflows/%s", nil},
		{http.MethodPut, "/workflows/%s", object{"name": "mine now"}},
		{http.MethodDelete, "/workflows/%s", nil},
		{http.MethodGet, "/workflows/%s/versions", nil},
		{http.MethodPost, "/workflows/%s/execute", object{}},
		{http.MethodPost, "/api/v1/workflows/%s/execute", object{}},
	} {
		a := me.Call(t, try.method, fmt.Sprintf(try.path, other.workflow), try.body)
		require.Equal(t, http.StatusForbidden, a.Status, "%s %s: %s", try.method, try.path, a.Body)
		require.NotContains(t, string(a.Body), "flow of", "and nothing is told")
		a = me.Call(t, try.method, fmt.Sprintf(try.path, unknownWorkflow), try.body)
		require.Equal(t, http.StatusNotFound, a.Status, "%s %s: %s", try.method, try.path, a.Body)
	}
	for _, try := range []struct{ method, path string }{
		{http.MethodGet, "/executions/%s"},
		{http.MethodGet, "/executions/%s/events"},
		{http.MethodPost, "/executions/%s/cancel"},
	} {
		a := me.Call(t, try.method, fmt.Sprintf(try.path, other.execution), nil)
		require.Contains(t, []int{http.StatusForbidden, http.StatusNotFound}, a.Status, "%s %s: %s", try.method, try.path, a.Body)
		require.NotContains(t, string(a.Body), "secret of")
		require.Equal(t, http.StatusNotFound, me.Call(t, try.method, fmt.Sprintf(try.path, unknownExecution), nil).Status)
	}
	a = me.Call(t, http.MethodPost, "/workflows/execute", object{"workflow_id": other.workflow})
	require.Contains(t, []int{http.StatusForbidden, http.StatusNotFound}, a.Status, "%s", a.Body)
}

// requireRowPolicies logs in as the service does: the tables themselves must keep tenants apart. A session of the login is
// a tenant's, and must say which; by itself the login may do nothing.
func requireRowPolicies(t *testing.T, p *platform.Platform, tenants ...company) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), p.Ready().DatabaseURL)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	within := func(settings string, query string) ([]string, error) {
		tx, err := conn.Begin(t.Context())
		require.NoError(t, err)
		defer func() { require.NoError(t, tx.Rollback(t.Context())) }()
		_, err = tx.Exec(t.Context(), settings)
		require.NoError(t, err)
		rows, err := tx.Query(t.Context(), query)
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, pgx.RowTo[string])
	}
	for _, table := range []string{"workflows", "workflow_versions", "sources", "executions", "execution_events", "audit_log", "api_keys"} {
		query := "SELECT DISTINCT tenant_id::text FROM agentflow." + table
		_, err := within("SET LOCAL ROLE none", query)
		require.Error(t, err, "%s: the login has no right of its own", table)
		_, err = within("SET LOCAL row_security = off; SET LOCAL app.tenant_id = 'acme'", query)
		require.ErrorContains(t, err, "row-level security", "%s: nobody turns the policies off", table)
		_, err = within("SELECT 1", query)
		require.ErrorContains(t, err, "app.tenant_id", "%s without a tenant is an error, not an empty table", table)
		for _, c := range tenants {
			seen, err := within("SET LOCAL app.tenant_id = '"+c.id+"'", query)
			require.NoError(t, err, table)
			require.Equal(t, []string{c.id}, seen, table)
		}
		seen, err := within("SET LOCAL app.tenant_id = 'nobody'", query)
		require.NoError(t, err, table)
		require.Empty(t, seen, table)
	}
}
