package source

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/workflow"
	"github.com/agentflow/agentflow/services/executor/internal/secret"
)

// everyCall makes each kind of call with a source and answers what came back, as text.
func everyCall(t *testing.T, b *bench, src workflow.Source) (string, []error) {
	t.Helper()
	var said strings.Builder
	var errs []error
	note := func(v any, err error) {
		_, _ = fmt.Fprintf(&said, "%+v\n", v)
		for link := err; link != nil; link = errors.Unwrap(link) { // what an error tracker would print
			_, _ = fmt.Fprintf(&said, "%s %+v\n", link, link)
		}
		errs = append(errs, err)
	}
	vals := values("x", "$DATABASE_URL ${DATABASE_URL} {env.DATABASE_URL} {{DATABASE_URL}} %DATABASE_URL%")
	switch src.Kind {
	case "llm":
		note(b.LLM(t.Context(), caller(), src, LLMRequest{System: "$DATABASE_URL", Prompt: "{env.DATABASE_URL} $DATABASE_URL"}))
		who := caller()
		who.Progress = func(s string) { said.WriteString(s) }
		note(b.LLM(t.Context(), who, src, LLMRequest{Prompt: "x"}))
	case "image":
		note(b.Image(t.Context(), caller(), src, ImageRequest{Prompt: "$DATABASE_URL"}))
	case "api":
		for _, endpoint := range []string{"/x/{x}", "/$DATABASE_URL", "/{env.DATABASE_URL}"} {
			note(b.Call(t.Context(), caller(), src, HTTPRequest{
				Method: "POST", Endpoint: endpoint, Values: vals, Query: map[string]any{"q": "{x}$DATABASE_URL"},
				Headers: map[string]string{"X-A": "{x} ${DATABASE_URL}"}, Body: map[string]any{"b": "{x}", "env": "DATABASE_URL"},
			}))
		}
	case "db":
		note(b.Query(t.Context(), caller(), src, QueryRequest{Template: "select {x}, '$DATABASE_URL'", Values: vals}))
	}
	result := b.Test(t.Context(), caller(), src)
	_, _ = fmt.Fprintf(&said, "%+v\n", result)
	for _, p := range Check(src) {
		_, _ = fmt.Fprintf(&said, "%+v\n", p)
	}
	return said.String(), errs
}

// The platform's variables and other tenants' are out of reach through any field of any source.
func TestNoFieldReadsWhatIsNotTheTenants(t *testing.T) {
	var mu sync.Mutex
	var received strings.Builder
	base := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		_, _ = fmt.Fprintf(&received, "%s %s %v\n", r.Method, r.URL, r.Header)
		mu.Unlock()
		writeJSON(w, 200, `{}`)
	})
	env := map[string]string{}
	for _, name := range []string{
		"DATABASE_URL", "REDIS_URL", "NATS_URL", "NATS_PASSWORD", "SENTRY_DSN", "AGENTFLOW_ADMIN_KEY", "POSTGRES_PASSWORD", "PGPASSWORD",
		"AWS_SECRET_ACCESS_KEY", "TENANT_OTHER_KEY", "TENANT_ACME2_KEY", "TENANT__ACME_EU__KEY", "TENANT__ACMEx5fEU__KEY", "UNLISTED_KEY", "PATH",
	} {
		env[name] = "postgres://u:planted-" + name + "@127.0.0.1:1/x"
	}
	sources := []workflow.Source{
		makeSource("api", "base_url", base), makeSource("db"), makeSource("image", "provider", "openai", "base_url", base), makeSource("image", "provider", "gemini", "base_url", base),
	}
	for _, p := range Providers("llm") {
		if p.Name != "echo" {
			sources = append(sources, makeSource("llm", "provider", p.Name, "model", "m", "base_url", base))
		}
	}
	tried := 0
	for _, allow := range []string{"", "*"} {
		b := newBench(t, env, func(c *Config) { c.SecretsAllow = allow })
		for _, src := range sources {
			for _, field := range append([]string{"api_key", "token", "password", "connection_string", "base_url", "token_url", "headers", "model"}, variableFields...) {
				for name := range env {
					if allow == "*" && name == "UNLISTED_KEY" {
						continue // that is what * says
					}
					tried++
					changed := makeSource(src.Kind)
					for k, v := range src.Config {
						changed.Config[k] = v
					}
					switch field {
					case "base_url":
						changed.Config["base_url"] = base + "/$" + name
					case "headers":
						changed.Config["headers"] = map[string]any{"X-A": "$" + name + " ${" + name + "} {env." + name + "}"}
					default:
						changed.Config[field] = name
					}
					// Each auth type reads other fields: all of them get the chance.
					for _, auth := range []string{"", "basic", "oauth2"} {
						if src.Kind != "api" && auth != "" {
							break
						}
						if auth != "" {
							changed.Config["auth_type"] = auth
							for _, f := range []string{"username_env", "password_env", "client_id_env", "client_secret_env"} {
								changed.Config[f] = name
							}
							changed.Config["token_url"] = base + "/token"
						}
						said, _ := everyCall(t, b, changed)
						require.NotContains(t, said, "planted-", "%s %s=%s", src.Kind, field, name)
					}
				}
			}
		}
		require.NotContains(t, b.logs.String(), "planted-")
	}
	require.NotContains(t, received.String(), "planted-")
	require.Greater(t, tried, 1000)
	require.NotEmpty(t, received.String())
}

// A tenant's own secret goes where it is sent and nowhere else: not into answers, errors or logs,
// whatever a peer or a driver says.
func TestASecretThatIsUsedIsNeverSaid(t *testing.T) {
	for _, status := range []int{200, 400, 401, 429, 500} {
		base := startServer(t, func(w http.ResponseWriter, r *http.Request) {
			// The worst peer repeats everything it was sent, in every place there is.
			echoed := fmt.Sprintf("%v %s", r.Header, r.URL)
			w.Header().Set("X-Echo", echoed)
			w.Header().Set("Location", "/"+r.Header.Get("X-Api-Key"))
			writeJSON(w, status, toJSON(t, map[string]any{
				"error":  map[string]any{"message": echoed, "code": echoed, "type": echoed, "status": echoed},
				"object": "chat.completion", "model": echoed, "echo": echoed,
				"choices":    []any{map[string]any{"index": 0, "finish_reason": "stop", "message": map[string]any{"role": "assistant", "content": echoed}}},
				"content":    []any{map[string]any{"type": "text", "text": echoed}},
				"candidates": []any{map[string]any{"finishReason": "STOP", "content": map[string]any{"parts": []any{map[string]any{"text": echoed}}}}},
				"data":       []any{map[string]any{"url": "https://x.example/?" + echoed, "revised_prompt": echoed}},
			}))
		})
		b := newBench(t, map[string]string{
			"TENANT_ACME_KEY": "planted-key/1+2", "TENANT_ACME_USER": "planted-user", "TENANT_ACME_PASS": "planted-pass word",
			"TENANT_ACME_DB": "postgres://planted-dbuser:planted-db%2Fpass@127.0.0.1:1/planted-db",
			"TENANT_ACME_MY": "mysql://planted-dbuser:planted-mypass@127.0.0.1:1/planted-db",
		})
		sources := []workflow.Source{
			apiSource(base, "api_key_env", "TENANT_ACME_KEY"), apiSource(base, "token_env", "TENANT_ACME_KEY"),
			apiSource(base, "username_env", "TENANT_ACME_USER", "password_env", "TENANT_ACME_PASS"),
			apiSource(base, "token_url", base, "client_id_env", "TENANT_ACME_USER", "client_secret_env", "TENANT_ACME_PASS"),
			makeSource("db", "dsn_env", "TENANT_ACME_DB"), makeSource("db", "dsn_env", "TENANT_ACME_MY"),
			makeSource("image", "provider", "openai", "base_url", base, "api_key_env", "TENANT_ACME_KEY", "model", "dall-e-3"),
			makeSource("image", "provider", "gemini", "base_url", base, "api_key_env", "TENANT_ACME_KEY", "model", "imagen-x"),
		}
		for _, p := range Providers("llm") {
			if p.Name != "echo" {
				sources = append(sources, makeSource("llm", "provider", p.Name, "model", "m", "base_url", base, "api_key_env", "TENANT_ACME_KEY"))
			}
		}
		for _, src := range sources {
			said, errs := everyCall(t, b, src)
			require.NotContains(t, said, "planted", "%v answering %d", src.Config, status)
			require.NotContains(t, said, "cGxhbnRlZC", "base64 of it, %v", src.Config)
			if status >= 400 || src.Kind == "db" {
				for _, err := range errs {
					require.Error(t, err)
				}
			}
		}
		require.NotContains(t, b.logs.String(), "planted")
		require.Contains(t, b.logs.String(), "outside call")
	}
}

// What masks the texts of one tenant does nothing to those of another: there it would tell that a word is a
// secret, and a token endpoint could blank out any word it likes.
func TestSecretsOfOneTenantAreWordsToAnother(t *testing.T) {
	base := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			writeJSON(w, 200, `{"access_token":"credentials","expires_in":3600}`)
			return
		}
		writeJSON(w, 401, `{"said":"wonderland"}`)
	})
	b := newBench(t, map[string]string{"TENANT_ACME_ID": "wonderland", "TENANT_ACME_SECRET": "planted"})
	_, err := b.Call(t.Context(), caller(), apiSource(base, "auth_type", "oauth2", "token_url", base+"/token",
		"client_id_env", "TENANT_ACME_ID", "client_secret_env", "TENANT_ACME_SECRET"), HTTPRequest{})
	require.ErrorContains(t, err, "check the "+secret.Mask)
	require.NotContains(t, err.Error(), "wonderland")
	other := caller()
	other.Tenant = "globex"
	_, err = b.Call(t.Context(), other, apiSource(base), HTTPRequest{})
	require.ErrorContains(t, err, "check the credentials")
	require.ErrorContains(t, err, "wonderland")
	require.Equal(t, "wonderland", b.Mask("globex", "wonderland"))
}

// A peer's encoder may escape more than it must, and bytes may hold a secret as well as a text.
func TestASecretIsMaskedHoweverItIsEncoded(t *testing.T) {
	answers := map[string]func(http.ResponseWriter){
		"json": func(w http.ResponseWriter) {
			writeJSON(w, 200, `{"\u0070lanted\/\u0073ecret":["\u0070lanted\/\u0073ecret"]}`)
		},
		"json without its type": func(w http.ResponseWriter) {
			_, _ = w.Write([]byte(`["planted\/secret", "\u0070lanted/secret"]`))
		},
		"bytes": func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/octet-stream")
			_, _ = w.Write([]byte("\x00planted/secret"))
		},
	}
	for name, answer := range answers {
		base := startServer(t, func(w http.ResponseWriter, _ *http.Request) { answer(w) })
		b := newBench(t, map[string]string{"TENANT_ACME_KEY": "planted/secret"})
		resp, err := b.Call(t.Context(), caller(), apiSource(base, "api_key_env", "TENANT_ACME_KEY"), HTTPRequest{})
		require.NoError(t, err, name)
		said := toJSON(t, resp)
		if data, ok := resp.Data.(Binary); ok {
			plain, err := base64.StdEncoding.DecodeString(data.Data)
			require.NoError(t, err)
			said = string(plain)
			require.Equal(t, len(plain), data.Size)
		}
		require.NotContains(t, said, "planted", name)
		require.Contains(t, said, secret.Mask, name)
	}
}
