package source

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/workflow"
)

func TestConnectionTestsSayWhatFailed(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	closed := listener.Addr().String()
	require.NoError(t, listener.Close())
	tls := httptest.NewUnstartedServer(http.NotFoundHandler())
	tls.Config.ErrorLog = log.New(io.Discard, "", 0)
	tls.StartTLS()
	t.Cleanup(tls.Close)

	status := func(code int, body string) string {
		return startServer(t, func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, code, body) })
	}
	model := func(kind, provider, base string, more ...any) workflow.Source {
		return makeSource(kind, append([]any{"provider", provider, "model", "m", "base_url", base, "api_key_env", "TENANT_ACME_KEY"}, more...)...)
	}
	for name, test := range map[string]struct {
		src   workflow.Source
		stage string
	}{
		"api":                   {apiSource(startHTTPBin(t), "test_endpoint", "/get"), StageOK},
		"api, bare":             {apiSource(status(404, "{}")), StageOK},
		"api, no address":       {makeSource("api"), StageConfig},
		"api, bad auth type":    {apiSource("http://x.example", "auth_type", "magic"), StageConfig},
		"api, literal secret":   {apiSource("http://x.example", "api_key", "planted-key-1234"), StageConfig},
		"api, secret as a name": {apiSource("http://x.example", "api_key_env", "planted-key-1234"), StageConfig},
		"api, no secret":        {apiSource("http://127.0.0.1:1", "api_key_env", "TENANT_ACME_NONE"), StageSecret},
		"api, foreign secret":   {apiSource("http://127.0.0.1:1", "api_key_env", "DATABASE_URL"), StageSecret},
		"api, private":          {apiSource("http://10.0.0.1"), StageEgress},
		"api, metadata":         {apiSource("http://169.254.169.254"), StageEgress},
		"api, name":             {apiSource("http://no-such-host.invalid"), StageName},
		"api, closed port":      {apiSource("http://" + closed), StageTCP},
		"api, tls":              {apiSource(tls.URL), StageTLS},
		"api, 401":              {apiSource(status(401, "{}")), StageAuth},
		"api, 403":              {apiSource(status(403, "{}")), StagePermission},
		"api, 500":              {apiSource(status(500, "{}")), StageRequest},
		"api, wrong endpoint":   {apiSource(status(404, "{}"), "test_endpoint", "/x"), StageRequest},

		"openai":             {model("llm", "openai", status(200, `{"object":"list","data":[]}`)), StageOK},
		"openai, key":        {model("llm", "openai", status(401, `{"error":{"message":"no","code":"invalid_api_key"}}`)), StageAuth},
		"openai, permission": {model("llm", "openai", status(403, `{"error":{"message":"no"}}`)), StagePermission},
		"openai, closed":     {model("llm", "openai", "http://"+closed), StageTCP},
		"openai, no model":   {makeSource("llm", "provider", "openai"), StageConfig},
		"openai, page":       {model("llm", "openai", status(200, `<html>`)), StageRequest},
		"azure":              {model("llm", "azure", status(200, `{"object":"list","data":[]}`)), StageOK},
		"anthropic":          {model("llm", "anthropic", status(200, `{"data":[],"has_more":false}`)), StageOK},
		"anthropic, key":     {model("llm", "anthropic", status(401, `{"type":"error","error":{"type":"authentication_error","message":"no"}}`)), StageAuth},
		"gemini":             {model("llm", "gemini", status(200, `{"name":"models/m"}`)), StageOK},
		"gemini, model":      {model("llm", "gemini", status(404, `{"error":{"code":404,"message":"no","status":"NOT_FOUND"}}`)), StageRequest},
		"gemini, key":        {model("image", "gemini", status(400, `{"error":{"code":400,"message":"API key not valid","status":"INVALID_ARGUMENT"}}`)), StageAuth},
		"image":              {model("image", "openai", status(200, `{"object":"list","data":[]}`)), StageOK},
		"echo":               {makeSource("llm", "provider", "echo"), StageOK},
		"unknown provider":   {makeSource("llm", "provider", "nobody", "model", "m"), StageConfig},
		"unknown kind":       {makeSource("ftp"), StageConfig},
		"db, no variable":    {makeSource("db"), StageConfig},
		"db, closed":         {makeSource("db", "dsn_env", "TENANT_ACME_CLOSED"), StageTCP},
		"db, private":        {makeSource("db", "dsn_env", "TENANT_ACME_PRIVATE"), StageEgress},
		"db, name":           {makeSource("db", "dsn_env", "TENANT_ACME_NAME"), StageName},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, map[string]string{
				"TENANT_ACME_KEY": plantedKey, "DATABASE_URL": "planted", "TENANT_ACME_CLOSED": "postgres://u:planted-pw@" + closed + "/x",
				"TENANT_ACME_PRIVATE": "postgres://u:planted-pw@10.0.0.1/x", "TENANT_ACME_NAME": "postgres://u:planted-pw@no-such-host.invalid/x",
			})
			got := b.Test(t.Context(), caller(), test.src)
			require.Equal(t, test.stage, got.Stage, got.Message)
			require.Equal(t, test.stage == StageOK, got.Connected)
			require.NotEmpty(t, got.Message)
			require.NotContains(t, got.Message, "planted")
			require.Positive(t, got.Latency)
		})
	}
}

func TestConnectionTestOfPostgres(t *testing.T) {
	b, _, src := dbBench(t)
	got := b.Test(t.Context(), caller(), src)
	require.True(t, got.Connected, got.Message)
	u, err := url.Parse(b.env["TENANT_ACME_DB"])
	require.NoError(t, err)
	u.Path = "/nowhere"
	b.env["TENANT_ACME_NODB"] = u.String()
	got = b.Test(t.Context(), caller(), makeSource("db", "dsn_env", "TENANT_ACME_NODB"))
	require.Equal(t, StageRequest, got.Stage, got.Message)
	require.Contains(t, got.Message, "nowhere")
}

// A peer that never answers ends a test after ten seconds, whatever the caller's own limit.
func TestConnectionTestsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Config{})
		require.NoError(t, err)
		client, server := net.Pipe()
		defer func() { require.NoError(t, server.Close()) }()
		go func() { _, _ = io.Copy(io.Discard, server) }()
		s.apiHTTP.Transport = headTransport{&http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return client, nil }}}
		got := s.Test(t.Context(), caller(), apiSource("http://slow.example"))
		require.False(t, got.Connected)
		require.Equal(t, testTimeout, got.Latency)
		require.Contains(t, got.Message, "time limit")
	})
}
