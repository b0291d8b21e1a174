package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/local"
	"github.com/agentflow/agentflow/pkg/sentrytest"
	"github.com/agentflow/agentflow/test/platform"
)

// buried is a secret that lies wherever a report could pick it up.
const buried = "BURIED-2718281828"

// reports is what Sentry is told.
type reports struct{ *sentrytest.Inbox }

// of are the reports of a service whose text holds all the given parts.
func (r *reports) of(service string, parts ...string) []object {
	var found []object
next:
	for _, e := range r.Events() {
		tags, _ := e["tags"].(map[string]any)
		raw, err := json.Marshal(e)
		if err != nil || tags["service"] != service {
			continue
		}
		for _, p := range parts {
			if !strings.Contains(string(raw), p) {
				continue next
			}
		}
		found = append(found, e)
	}
	return found
}

// TestErrorReports makes something go wrong in each of the four services, and looks at what Sentry is told: on whose
// behalf it was, the steps that led there, and none of the secrets that lay along the way.
func TestErrorReports(t *testing.T) {
	t.Parallel()
	inbox := &reports{sentrytest.New(t)}
	server, err := local.StartPostgres(t.Context(), local.PostgresOptions{Dir: t.TempDir(), Fast: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop(context.Background())) })
	p := platform.Start(t, platform.Options{Env: []string{
		"LOG_LEVEL=error", "AUTH_REQUIRED=true", "DATABASE_URL=" + server.URL(), "AGENTFLOW_SECRET_MODEL=" + buried,
		"SENTRY_DSN=" + inbox.DSN(), "SENTRY_ENVIRONMENT=production",
	}})
	acme := found(t, p, "reported")
	outside := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprintf(w, `{"error":"no such key: %s", "api_key": %q}`, req.Header.Get("Authorization"), buried)
	}))
	t.Cleanup(outside.Close)

	inbox.reportOfExecutor(t, acme, outside.URL)
	inbox.reportsOfCatalogAndGateway(t, acme, server.URL())
	inbox.reportOfLimiter(t, p, acme)
	require.NoError(t, p.Close()) // whatever waits to be sent is sent
	require.NotContains(t, inbox.Raw(), "BURIED")
	require.NotContains(t, inbox.Raw(), strings.TrimPrefix(p.Ready().AdminKey, "af_"))
}

// reportOfExecutor: a node that fails: the report knows the execution, and the steps that led there.
func (r *reports) reportOfExecutor(t *testing.T, acme company, outside string) {
	t.Helper()
	spec := object{
		"start_node": "in", "nodes": []object{{"id": "in", "type": "input"}, {"id": "call", "type": "api", "metadata": object{"source_id": "s", "endpoint": "/x?api_key=" + buried, "on_error": "fail"}}},
		"edges":   []object{{"from": "in", "to": "call"}},
		"sources": []object{{"id": "s", "kind": "api", "config": object{"base_url": outside, "auth_type": "bearer", "token_env": "AGENTFLOW_SECRET_MODEL"}}},
	}
	a := acme.Call(t, http.MethodPost, "/workflows", object{"name": "calls", "spec": spec})
	require.Equal(t, http.StatusCreated, a.Status, "%s", a.Body)
	workflow, _ := a.JSON(t)["id"].(string)
	a = acme.Call(t, http.MethodPost, "/workflows/"+workflow+"/execute", object{"initial_state": object{"user_input": buried}}, "X-Request-ID", "checkout-4711")
	require.Equal(t, http.StatusInternalServerError, a.Status, "%s", a.Body)
	execution, _ := a.JSON(t)["execution_id"].(string)
	platform.Await(t, "the report", func() bool { return len(r.of("executor", execution)) > 0 })
	report := r.of("executor", execution)[0]
	require.Equal(t, map[string]any{
		"service": "executor", "tenant": acme.id, "workflow_id": workflow, "execution_id": execution, "request_id": "checkout-4711",
	}, report["tags"])
	require.Equal(t, "production", report["environment"])
	var steps []string
	for _, c := range report["breadcrumbs"].([]any) {
		crumb := c.(map[string]any)
		steps = append(steps, fmt.Sprint(crumb["category"], " ", crumb["message"]))
	}
	require.Equal(t, "execution taken", steps[0])
	require.Contains(t, steps, "node began")
	require.Contains(t, steps, "node ended")
	require.Equal(t, "execution failed", steps[len(steps)-1])
}

// reportsOfCatalogAndGateway: a query that cannot run: both tell of it, each of its side.
func (r *reports) reportsOfCatalogAndGateway(t *testing.T, acme company, database string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), database)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), `alter table agentflow.workflows rename column description to moved`)
	require.NoError(t, err)
	a := acme.Call(t, http.MethodGet, "/workflows?search="+buried, nil, "X-Request-ID", "list-4712", "Cookie", buried)
	require.Equal(t, http.StatusInternalServerError, a.Status, "%s", a.Body)
	require.NotContains(t, string(a.Body), "description", "the answer says nothing of the tables")
	_, err = conn.Exec(t.Context(), `alter table agentflow.workflows rename column moved to description`)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	platform.Await(t, "the report of the catalog", func() bool {
		return len(r.of("catalog", "catalog.workflow.list", `"tenant":"`+acme.id+`"`)) > 0
	})
	platform.Await(t, "the report of the gateway", func() bool {
		return len(r.of("gateway", `"request_id":"list-4712"`, `"tenant":"`+acme.id+`"`)) == 1
	})
}

// reportOfLimiter: something else stands where the limiter keeps its counters, so it cannot count.
func (r *reports) reportOfLimiter(t *testing.T, p *platform.Platform, acme company) {
	t.Helper()
	at, err := url.Parse(p.Ready().RedisURL)
	require.NoError(t, err)
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(t.Context(), "tcp", at.Host)
	require.NoError(t, err)
	if password, ok := at.User.Password(); ok {
		_, err = fmt.Fprintf(conn, "AUTH %s\r\n", password)
		require.NoError(t, err)
		_, err = bufio.NewReader(conn).ReadString('\n')
		require.NoError(t, err)
	}
	// Something else stands where the limiter keeps its counters.
	_, err = fmt.Fprintf(conn, "LPUSH rate_limit:{%s:requests}:all:60s %s\r\n", acme.id, buried)
	require.NoError(t, err)
	said, err := bufio.NewReader(conn).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, ":1\r\n", said)
	require.NoError(t, conn.Close())
	admin := p.As(p.Ready().AdminKey)
	a := admin.Call(t, http.MethodPut, "/tenants/"+acme.id, object{"limits": object{"max_requests_per_minute": 1000}})
	require.Equal(t, http.StatusOK, a.Status, "%s", a.Body)
	platform.Await(t, "the report of the limiter", func() bool {
		acme.Call(t, http.MethodGet, "/workflows/node-types", nil)
		return len(r.of("limiter", "limits are not counted", `"level":"warning"`, `"tenant":"`+acme.id+`"`)) > 0
	})
}
