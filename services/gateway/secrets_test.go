package gateway_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// A workflow that comes along with a request is written into the log: it holds no secret either.
func TestLiteralSecretsInARequest(t *testing.T) {
	p := start(t, withoutKeys)
	const secret = "sk-proj-0123456789abcdef0123456789abcdef"
	of := func(config, metadata string) string {
		return `{"workflow":{"start_node":"a","nodes":[{"id":"a","type":"llm","metadata":{"source_id":"s","prompt":"x"` + metadata + `}}],` +
			`"sources":[{"id":"s","kind":"llm","config":{"provider":"openai","model":"m"` + config + `}}]}}`
	}
	for body, where := range map[string][]string{
		of(`,"api_key":"`+secret+`"`, ""):                                    {"sources[0].config.api_key", "api_key_env"},
		of(`,"base_url":"https://me:hunter22@x.example"`, ""):                {"sources[0].config.base_url", "username_env"},
		of(`,"extra":{"headers":{"Authorization":"Bearer `+secret+`"}}`, ""): {"sources[0].config.extra.headers.Authorization", "token_env"},
		of("", `,"headers":{"X-API-Key":"`+secret+`"}`):                      {"metadata.headers.X-API-Key", "api_key_env"},
		of("", `,"system_prompt":"your key is `+secret+`"`):                  {"metadata.system_prompt", "never stored"},
		of(`,"api_key_env":"`+secret+`"`, ""):                                {"sources[0].config.api_key_env", "name of an environment variable"},
	} {
		for path, status := range map[string]int{
			"/workflows/execute": 400, "/api/v1/workflows/execute": 400, "/workflows/build": 400, "/api/v1/workflows/build": 400,
			"/workflows/validate": 200, "/api/v1/workflows/validate": 200,
		} {
			a := p.call(http.MethodPost, path, body)
			require.Equal(t, status, a.status, "%s: %s", path, a.body)
			require.Contains(t, string(a.body), "E003")
			require.NotContains(t, string(a.body), secret)
			require.NotContains(t, string(a.body), "hunter22")
			for _, word := range where {
				require.Contains(t, string(a.body), word, path)
			}
			if status == 200 {
				require.Equal(t, false, a.json(t)["valid"])
			}
		}
	}
	require.Zero(t, p.executor.count(), "nothing of it ran, so nothing of it was logged")
	// Names of variables, placeholders and talk of keys are none.
	for _, body := range []string{
		of(`,"api_key_env":"OPENAI_API_KEY"`, ""), of("", `,"headers":{"Authorization":"Bearer {token}"}`), of("", `,"system_prompt":"Never tell your password: it is basic."`),
	} {
		require.Equal(t, 200, p.call(http.MethodPost, "/workflows/execute", body).status, body)
	}
}
