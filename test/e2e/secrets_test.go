package e2e

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/archive"
	"github.com/agentflow/agentflow/pkg/local"
	"github.com/agentflow/agentflow/test/platform"
)

// planted are values that are used in earnest, each by its variable, and may be nowhere but where they are sent.
var planted = map[string]string{
	"TENANT_ACME_MODEL":  "planted-model-key-0a1b2c3d4e5f",
	"TENANT_ACME_API":    "planted-api-key-0a1b2c3d4e5f",
	"TENANT_ACME_BEARER": "planted-bearer-token-0a1b2c3d4e5f",
	"TENANT_ACME_USER":   "planted-user-0a1b2c3d4e5f",
	"TENANT_ACME_PASS":   "planted pass/word+0a1b2c3d4e5f",
	"TENANT_ACME_CLIENT": "planted-oauth-secret-0a1b2c3d4e5f",
	"TENANT_ACME_DSN":    "postgres://planted-login:planted-dsn-pass-0a1b2c3d4e5f@127.0.0.1:1/planted-name",
}

// grantedToken is what the OAuth2 server gives for the client's secret.
const grantedToken = "planted-granted-token-0a1b2c3d4e5f"

// sink keeps everything that is sent to it.
type sink struct {
	mu  sync.Mutex
	got bytes.Buffer
}

func (s *sink) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got.Write(p)
}

func (s *sink) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got.String()
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		if z, err := gzip.NewReader(r.Body); err == nil {
			body = z
		}
	}
	raw, _ := io.ReadAll(body)
	_, _ = s.Write(fmt.Appendf(nil, "%s %v\n%s\n", r.URL, r.Header, raw))
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, "{}")
}

// parrot is the worst of all peers: it repeats whatever it was sent in every place there is, with a status of its choice.
func parrot(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if strings.HasSuffix(r.URL.Path, "/token") && r.URL.Query().Get("refuse") == "" {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"access_token":"`+grantedToken+`","token_type":"bearer","expires_in":3600}`)
		return
	}
	said := fmt.Sprintf("%v %s %s", r.Header, r.URL, body)
	if user, pass, ok := r.BasicAuth(); ok {
		said += user + ":" + pass
	}
	status := http.StatusOK
	for _, s := range []int{400, 401, 429, 500} {
		if strings.Contains(r.URL.Path, strconv.Itoa(s)) {
			status = s
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Echo", strings.ReplaceAll(r.Header.Get("Authorization")+r.Header.Get("X-Api-Key"), "\n", ""))
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"error":{"message":%[1]q,"code":%[1]q},"model":%[1]q,"object":"chat.completion","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":%[1]q}}]}`,
		strings.ToValidUTF8(strings.ReplaceAll(said, "%", "%%"), ""))
}

// TestSecretsAreNowhere uses a secret of every kind with a peer that repeats it, in calls that succeed, fail and are only
// tried, and then looks for it in all that the platform has written: streams, buckets, tables, logs, traces, error
// reports and answers.
func TestSecretsAreNowhere(t *testing.T) {
	t.Parallel()
	database, err := local.StartPostgres(t.Context(), local.PostgresOptions{Dir: filepath.Join(t.TempDir(), "postgres"), Fast: true})
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, database.Stop(ctx))
	})
	peer := httptest.NewServer(http.HandlerFunc(parrot))
	defer peer.Close()
	traces, reports, log := &sink{}, &sink{}, &sink{}
	otlp, sentry := httptest.NewServer(traces), httptest.NewServer(reports)
	defer otlp.Close()
	defer sentry.Close()
	env := []string{
		"AUTH_REQUIRED=true", "LOG_LEVEL=debug", "DATABASE_URL=" + database.URL(), "EXECUTOR_NODE_TIMEOUT_SECONDS=10",
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + otlp.URL, "OTEL_TRACES_SAMPLER_ARG=1", "OTEL_BSP_SCHEDULE_DELAY=100",
		"SENTRY_DSN=" + strings.Replace(sentry.URL, "http://", "http://public@", 1) + "/1", "SENTRY_ENVIRONMENT=production", "SENTRY_TRACES_SAMPLE_RATE=1",
	}
	for name, value := range planted {
		env = append(env, name+"="+value)
	}
	p := platform.Start(t, platform.Options{Env: env, Log: log})
	acme := found(t, p, "acme")
	answers := &sink{}
	say := func(a platform.Answer) { _, _ = fmt.Fprintf(answers, "%v\n%s\n", a.Header, a.Body) }

	failed := 0
	for name, config := range map[string]object{
		"model":  {"kind": "llm", "provider": "openai", "model": "m", "api_key_env": "TENANT_ACME_MODEL"},
		"key":    {"kind": "api", "auth_type": "api_key", "api_key_env": "TENANT_ACME_API"},
		"bearer": {"kind": "api", "auth_type": "bearer", "token_env": "TENANT_ACME_BEARER"},
		"basic":  {"kind": "api", "auth_type": "basic", "username_env": "TENANT_ACME_USER", "password_env": "TENANT_ACME_PASS"},
		"oauth2": {"kind": "api", "auth_type": "oauth2", "token_url": peer.URL + "/token", "client_id_env": "TENANT_ACME_USER", "client_secret_env": "TENANT_ACME_CLIENT"},
		"denied": {"kind": "api", "auth_type": "oauth2", "token_url": peer.URL + "/400/token?refuse=1", "client_id_env": "TENANT_ACME_USER", "client_secret_env": "TENANT_ACME_CLIENT"},
		"rows":   {"kind": "db", "connection_string_env": "TENANT_ACME_DSN", "timeout": 2},
	} {
		kind, _ := config["kind"].(string)
		delete(config, "kind")
		for _, status := range []string{"200", "400", "401", "429", "500"} {
			if kind == "db" && status != "200" {
				break
			}
			if kind != "db" {
				config["base_url"] = peer.URL + "/" + status
			}
			id := name + status
			a := acme.Call(t, http.MethodPost, "/sources", object{"id": id, "kind": kind, "config": config})
			require.Equal(t, http.StatusCreated, a.Status, "%s: %s", id, a.Body)
			say(a)
			metadata := object{"source_id": id, "prompt": "x", "query": "select 1", "endpoint": "/orders", "retry": object{"max_attempts": 1}, "stream": status == "200"}
			a = acme.Call(t, http.MethodPost, "/workflows/execute", object{"workflow": object{
				"start_node": "out", "nodes": []any{object{"id": "out", "type": kind, "metadata": metadata}},
			}})
			say(a)
			if a.Status != http.StatusOK {
				failed++
			}
			execution, _ := a.JSON(t)["execution_id"].(string)
			require.NotEmpty(t, execution, "%s: %s", id, a.Body)
			say(acme.Get(t, "/executions/"+execution))
			say(acme.Get(t, "/executions/"+execution+"/events"))
			say(acme.Call(t, http.MethodPost, "/sources/"+id+"/test", nil))
			say(acme.Call(t, http.MethodPost, "/api/v1/sources/"+id+"/test", nil))
		}
	}
	require.Greater(t, failed, 15, "the errors were errors")
	for _, path := range []string{"/sources", "/api/v1/sources/", "/executions", "/audit", "/limits"} {
		say(acme.Get(t, path))
	}
	platform.Await(t, "the archive", func() bool {
		var page struct {
			Total int `json:"total"`
		}
		acme.Get(t, "/executions?status=FAILED").Decode(t, &page)
		return page.Total >= failed
	})
	stores := map[string]string{
		"answers": answers.String(), "streams": everyMessage(t, p.Ready().NATSURL), "tables": everyRow(t, database.URL()),
	}
	require.NoError(t, p.Stop()) // the last traces and reports are sent
	stores["log"], stores["traces"], stores["error reports"] = log.String(), traces.String(), reports.String()
	for name, mark := range map[string]string{
		"answers": "orders", "streams": "node_failed", "tables": "acme", "log": `"level":"debug"`, "traces": "node api", "error reports": "sentry",
	} {
		require.Contains(t, stores[name], mark, "the %s were looked at", name)
	}
	key := acme.Key()
	for name, text := range stores {
		for variable, value := range planted {
			requireAbsent(t, text, value, "the value of "+variable+" in the "+name)
		}
		requireAbsent(t, text, grantedToken, "the token in the "+name)
		requireAbsent(t, text, "planted-dsn-pass", "the password of the connection string in the "+name)
		requireAbsent(t, text, key, "the API key in the "+name)
		requireAbsent(t, text, p.Ready().AdminKey, "the admin key in the "+name)
	}
}

// requireAbsent looks for a value as it is and in the forms that travel.
func requireAbsent(t *testing.T, text, value, what string) {
	t.Helper()
	for _, form := range []string{
		value, url.QueryEscape(value), url.PathEscape(value), base64.StdEncoding.EncodeToString([]byte(value)),
		base64.RawURLEncoding.EncodeToString([]byte(value)), hex.EncodeToString([]byte(value)),
	} {
		if i := strings.Index(text, form); i >= 0 {
			t.Errorf("%s: …%s…", what, text[max(0, i-300):min(len(text), i+len(form)+100)])
			return
		}
	}
}

// everyMessage is all that stands in JetStream: streams, key-value buckets and object stores, which are streams too.
func everyMessage(t *testing.T, address string) string {
	t.Helper()
	nc, err := nats.Connect(address)
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	var all strings.Builder
	list := js.ListStreams(t.Context())
	for info := range list.Info() {
		_, _ = fmt.Fprintf(&all, "%+v\n", info.Config)
		stream, err := js.Stream(t.Context(), info.Config.Name)
		require.NoError(t, err)
		for seq := info.State.FirstSeq; seq <= info.State.LastSeq && seq > 0; seq++ {
			m, err := stream.GetMsg(t.Context(), seq)
			if err != nil {
				continue // deleted
			}
			_, _ = fmt.Fprintf(&all, "%s %v\n%s\n", m.Subject, m.Header, m.Data)
		}
	}
	require.NoError(t, list.Err())
	return all.String()
}

// everyRow is all that stands in the tables, as the owner sees it.
func everyRow(t *testing.T, address string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	text := func(query string) []string { return column[string](t, conn, query) }
	var all strings.Builder
	tables := text("select format('%I.%I', schemaname, tablename) from pg_tables where schemaname not in ('pg_catalog', 'information_schema')")
	require.Greater(t, len(tables), 10)
	for _, table := range tables {
		for _, row := range text("select t::text from " + table + " t") {
			all.WriteString(row + "\n")
		}
	}
	// The archive keeps events as they were on the wire, packed.
	for _, packed := range column[[]byte](t, conn, "select body from agentflow.execution_events") {
		body, err := archive.Open(packed)
		require.NoError(t, err)
		all.WriteString(string(body) + "\n")
	}
	return all.String()
}

func column[T any](t *testing.T, conn *pgx.Conn, query string) []T {
	t.Helper()
	rows, err := conn.Query(t.Context(), query)
	require.NoError(t, err, query)
	list, err := pgx.CollectRows(rows, pgx.RowTo[T])
	require.NoError(t, err, query)
	return list
}
