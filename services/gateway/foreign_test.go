package gateway_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/services/gateway"
)

// TestForeignPages: a gateway that asks for no keys does not act for pages of other sites, and answers programs as
// ever.
func TestForeignPages(t *testing.T) {
	p := start(t, withoutKeys, func(c *gateway.Config) { c.CORSOrigins = []string{"https://app.example.com"} })
	_, port, _ := strings.Cut(strings.TrimPrefix(p.url, "http://"), ":")
	send := func(method, path, host string, headers ...string) answer {
		body := ""
		if method == http.MethodPost {
			body = run
		}
		return p.at(p.url, method, path, body, append(headers, "Host", host)...)
	}
	for name, c := range map[string]struct {
		host    string
		headers []string
		get     int
		post    int
	}{
		"a program":                  {"127.0.0.1:" + port, nil, 200, 200},
		"a program, as text":         {"localhost:" + port, []string{"Content-Type", "text/plain"}, 200, 200},
		"IPv6":                       {"[::1]:" + port, nil, 200, 200},
		"a name of this machine":     {"agentflow.localhost:" + port, nil, 200, 200},
		"the docs of this gateway":   {"localhost:" + port, []string{"Origin", "http://localhost:" + port}, 200, 200},
		"a page that was let in":     {"localhost:" + port, []string{"Origin", "https://app.example.com"}, 200, 200},
		"by the name of that page":   {"app.example.com", nil, 200, 200},
		"another site":               {"localhost:" + port, []string{"Origin", "https://evil.example.com", "Content-Type", "text/plain"}, 200, 403},
		"a sandboxed page":           {"localhost:" + port, []string{"Origin", "null", "Content-Type", "text/plain"}, 200, 403},
		"another port":               {"localhost:" + port, []string{"Origin", "http://localhost:3000"}, 200, 403},
		"a name that was rebound":    {"evil.example.com:" + port, nil, 403, 403},
		"rebound, with its origin":   {"evil.example.com", []string{"Origin", "http://evil.example.com"}, 403, 403},
		"looks like localhost":       {"localhost.evil.example.com", nil, 403, 403},
		"looks like an address":      {"127.0.0.1.evil.example.com", nil, 403, 403},
		"an address of another host": {"192.0.2.1:" + port, nil, 403, 403},
	} {
		t.Run(name, func(t *testing.T) {
			for _, prefix := range []string{"", "/api/v1"} {
				a := send(http.MethodGet, prefix+"/workflows/node-types", c.host, c.headers...)
				require.Equal(t, c.get, a.status, "%s", a.body)
				a = send(http.MethodPost, prefix+"/workflows/execute", c.host, c.headers...)
				require.Equal(t, c.post, a.status, "%s", a.body)
				if a.status == http.StatusForbidden {
					require.Contains(t, string(a.body), `"code":"FOREIGN_ORIGIN"`)
				}
			}
		})
	}
}

// TestForeignPagesWithKeys: where keys are asked for, they decide, whatever the name and the page.
func TestForeignPagesWithKeys(t *testing.T) {
	p := start(t)
	key := p.tenant("acme")
	a := p.call(http.MethodPost, "/workflows/execute", run, "X-API-Key", key, "Host", "api.example.com", "Origin", "https://app.example.com")
	require.Equal(t, 200, a.status, "%s", a.body)
}
