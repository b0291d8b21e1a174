package credential_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/agentflow/agentflow/pkg/credential"
)

// hiding is a config with a secret in it, the field that must be named, and a part of the advice.
type hiding struct{ config, field, advice string }

const secret = "S3cretValue-1234567890"

// filler makes keys that look like those of a provider without standing in this file as one.
func filler(n int) string { return strings.Repeat("a1B2c3D4", n/8+1)[:n] }

func hidingPlaces() []hiding {
	jwt := "eyJ" + filler(20) + ".eyJ" + filler(30) + "." + filler(20)
	return []hiding{
		{`{"api_key":"` + secret + `"}`, "config.api_key", `"api_key_env"`},
		{`{"apiKey":"` + secret + `"}`, "config.apiKey", `"api_key_env"`},
		{`{"API-KEY":"` + secret + `"}`, "config.API-KEY", `"api_key_env"`},
		{`{"openai_api_key":"` + secret + `"}`, "config.openai_api_key", `"api_key_env"`},
		{`{"token":"` + secret + `"}`, "config.token", `"token_env"`},
		{`{"access_token":"` + secret + `"}`, "config.access_token", `"token_env"`},
		{`{"bearer":"` + secret + `"}`, "config.bearer", `"token_env"`},
		{`{"jwt":"` + secret + `"}`, "config.jwt", `"token_env"`},
		{`{"password":"` + secret + `"}`, "config.password", `"password_env"`},
		{`{"db_password":"` + secret + `"}`, "config.db_password", `"password_env"`},
		{`{"passwd":"x"}`, "config.passwd", `"password_env"`},
		{`{"password":12345}`, "config.password", `"password_env"`},
		{`{"pin":1234}`, "config.pin", `"api_key_env"`},
		{`{"client_secret":"` + secret + `"}`, "config.client_secret", `"api_key_env"`},
		{`{"secret":{"value":"` + secret + `"}}`, "config.secret.value", "secrets are never stored"},
		{`{"credentials":["user","` + secret + `"]}`, "config.credentials[0]", "secrets are never stored"},
		{`{"auth":{"type":"bearer","token":"` + secret + `"}}`, "config.auth.token", `"token_env"`},
		{`{"auth":{"type":"basic","username":"me","password":"` + secret + `"}}`, "config.auth.password", `"password_env"`},
		{`{"auth":"me:` + secret + `"}`, "config.auth", "secrets are never stored"},
		{`{"a":{"b":[{"c":{"private_key":"` + secret + `"}}]}}`, "config.a.b[0].c.private_key", `"api_key_env"`},
		{`{"connection_string":"host=db user=me"}`, "config.connection_string", `"connection_string_env"`},
		{`{"dsn":"file:x"}`, "config.dsn", `"connection_string_env"`},
		{`{"database_url":"postgres://db/x"}`, "config.database_url", `"connection_string_env"`},
		{`{"headers":{"Authorization":"Bearer ` + secret + `"}}`, "config.headers.Authorization", `"auth_type": "bearer"`},
		{`{"headers":{"authorization":"opaque"}}`, "config.headers.authorization", `"token_env"`},
		{`{"headers":{"X-API-Key":"opaque"}}`, "config.headers.X-API-Key", `"api_key_env"`},
		{`{"headers":{"x-goog-api-key":"opaque"}}`, "config.headers.x-goog-api-key", `"api_key_env"`},
		{`{"headers":{"Cookie":"sid=abc"}}`, "config.headers.Cookie", "leave the header out"},
		{`{"headers":{"Proxy-Authorization":"Basic x"}}`, "config.headers.Proxy-Authorization", "leave the header out"},
		{`{"headers":{"X-Whatever":"Bearer abc123def456"}}`, "config.headers.X-Whatever", "an authorization header"},
		{`{"headers":[{"name":"Authorization","value":"opaque"}]}`, "config.headers[0].value", `"token_env"`},
		{`{"headers":["Authorization: Bearer opaque"]}`, "config.headers[0]", "an authorization header"},
		{`{"base_url":"https://me:` + secret + `@api.example.com"}`, "config.base_url", `"username_env"`},
		{`{"base_url":"https://me:p@ss@api.example.com/v1"}`, "config.base_url", `"username_env"`},
		{`{"base_url":"https://:` + secret + `@api.example.com"}`, "config.base_url", "a password inside a URL"},
		{`{"endpoint":"redis://default:a/b@cache:6379/0"}`, "config.endpoint", "a password inside a URL"},
		{`{"base_url":"https://api.example.com/v1?api_key=abc"}`, "config.base_url", "among the parameters"},
		{`{"base_url":"https://api.example.com/v1?x=1&access%5Ftoken=abc#f"}`, "config.base_url", "among the parameters"},
		{`{"params":{"key":"abc"}}`, "config.params.key", `"api_key_env"`},
		{`{"options":"host=db;Password=` + secret + `"}`, "config.options", "connection string"},
		{`{"note":"the db is postgres://me:` + secret + `@db/x, do not tell"}`, "config.note", "a password inside a URL"},
		{`{"api_key_env":"sk-` + filler(40) + `"}`, "config.api_key_env", "must be the name of an environment variable"},
		{`{"api_key_env":"not a name"}`, "config.api_key_env", "must be the name of an environment variable"},
		{`{"connection_string_env":"postgres://me:pw12345@db/x"}`, "config.connection_string_env", "must be the name of an environment variable"},
		{`{"token_env":"` + "gsk_" + filler(32) + `"}`, "config.token_env", "a Groq key"},
		{`{"model":"` + "sk-proj-" + filler(40) + `"}`, "config.model", "an API key"},
		{`{"model":"` + "sk-ant-api03-" + filler(40) + `"}`, "config.model", "an Anthropic key"},
		{`{"x":"` + "AIza" + filler(35) + `"}`, "config.x", "a Google key"},
		{`{"x":"` + "AKIA" + strings.Repeat("A1B2", 4) + `"}`, "config.x", "an AWS key"},
		{`{"x":"` + "ghp_" + filler(36) + `"}`, "config.x", "a GitHub token"},
		{`{"x":"` + "xoxb-" + filler(30) + `"}`, "config.x", "a Slack token"},
		{`{"x":"` + "hf_" + filler(34) + `"}`, "config.x", "a Hugging Face token"},
		{`{"x":"` + "sk_live_" + filler(24) + `"}`, "config.x", "a Stripe key"},
		{`{"x":"` + "af_" + strings.Repeat("0123abcd", 8) + `"}`, "config.x", "an AgentFlow key"},
		{`{"x":"` + jwt + `"}`, "config.x", "a JSON web token"},
		{`{"x":"-----BEGIN RSA PRIVATE KEY-----\nabc"}`, "config.x", "a private key"},
		{`{"x":"DefaultEndpointsProtocol=https;AccountKey=` + filler(40) + `"}`, "config.x", "an Azure storage key"},
		{`{"x":"{\"api_key\":\"` + secret + `\"}"}`, "config.x.api_key", `"api_key_env"`},
		{`{"` + "sk-" + filler(30) + `":true}`, "config." + credential.Mask, "the name of this field"},
		{`{"api_key":"` + credential.Mask + `"}`, "config.api_key", "is a mask"},
		{`{"retry":{"x":[["ok",["Basic dXNlcjpwYXNz1234"]]]}}`, "config.retry.x[0][1][0]", "an authorization header"},
	}
}

func decode(t require.TestingT, text string) any {
	var v any
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	require.NoError(t, d.Decode(&v), text)
	return v
}

func TestHidingPlaces(t *testing.T) {
	t.Parallel()
	require.GreaterOrEqual(t, len(hidingPlaces()), 40)
	for _, h := range hidingPlaces() {
		v := decode(t, h.config)
		found := credential.Check("config", v)
		require.NotEmpty(t, found, h.config)
		require.Equal(t, h.field, found[0].Field, h.config)
		require.Contains(t, found[0].Message, h.advice, h.config)
		for _, f := range found {
			require.NotContains(t, f.Field+f.Message, secret, "what was found is never repeated")
		}
		masked, err := json.Marshal(credential.Masked(v))
		require.NoError(t, err)
		require.Contains(t, string(masked), credential.Mask, h.config)
		require.NotContains(t, string(masked), secret, h.config)
	}
}

func TestHarmless(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{"provider":"openai","model":"gpt-4o-mini","api_key_env":"OPENAI_API_KEY","max_tokens":4096,"temperature":0.2}`,
		`{"connection_string_env":"ORDERS_DATABASE_URL","pool_size":5,"timeout":30}`,
		`{"dsn_env":"ORDERS_DSN"}`,
		`{"base_url":"https://api.example.com/v1?page=1&limit=10","headers":{"Accept":"application/json","X-Client":"agentflow/1.0"}}`,
		`{"auth_type":"api_key","api_key_header":"X-API-Key","auth_env":"WEATHER_KEY"}`,
		`{"auth_type":"basic","username_env":"U","password_env":"P"}`,
		`{"auth":{"type":"bearer","token_env":"T"}}`,
		`{"headers":{"Authorization":"Bearer {user_token}"}}`,
		`{"headers":{"Authorization":"Bearer ${API_TOKEN}"}}`,
		`{"headers":[{"name":"Accept","value":"text/plain"},{"key":"X-Trace","value":"on"}]}`,
		`{"api_key":"","password":null,"token":false}`,
		`{"api_key":"${OPENAI_API_KEY}"}`,
		`{"base_url":"http://localhost:11434/v1"}`,
		`{"base_url":"https://user@example.com/x"}`,
		`{"base_url":"https://example.com:8443/@scope/pkg"}`,
		`{"base_url":"https://example.com/a:b@c"}`,
		`{"price_per_1k_input":0.15,"next_page_token":"abc","token_type":"bearer"}`,
		`{"description":"a basic understanding of bearer certificates"}`,
		`{"model":"gemini-2.5-flash","stop":["\n\nHuman:"]}`,
		`{"tokens":1000,"keys":["a","b"],"keywords":["password","token"]}`,
		`{"x":"{not json"}`,
		`{"x":"[1,2]"}`,
	} {
		v := decode(t, text)
		require.Empty(t, credential.Check("config", v), text)
		masked, err := json.Marshal(credential.Masked(v))
		require.NoError(t, err)
		require.JSONEq(t, text, string(masked))
	}
}

func TestCheckNode(t *testing.T) {
	t.Parallel()
	require.Empty(t, credential.CheckNode("metadata", map[string]any{
		"prompt": "Explain why password = hunter2 is bad, and what Basic auth12345678 means", "source_id": "llm",
	}))
	found := credential.CheckNode("metadata", map[string]any{
		"prompt": "use sk-" + filler(40), "headers": map[string]any{"Authorization": "Bearer " + secret}, "api_key": secret,
	})
	var fields []string
	for _, f := range found {
		fields = append(fields, f.Field)
	}
	require.Equal(t, []string{"metadata.api_key", "metadata.headers.Authorization", "metadata.prompt"}, fields)
}

// Whatever the document, masking it leaves nothing to be found, and never touches the original.
func TestMaskedIsClean(t *testing.T) {
	t.Parallel()
	names := rapid.SampledFrom([]string{"api_key", "headers", "x", "value", "name", "token_env", "auth", "Authorization", "a b", "base_url"})
	texts := rapid.SampledFrom([]string{
		"", "plain", secret, "sk-" + filler(30), "Bearer abc1234567", "https://u:p1@h/x", "NAME", "API_env", "{tpl}", `{"password":"x"}`, "Authorization",
	})
	var value func(depth int) *rapid.Generator[any]
	value = func(depth int) *rapid.Generator[any] {
		leaf := rapid.Map(texts, func(s string) any { return s })
		if depth == 0 {
			return leaf
		}
		return rapid.OneOf(leaf,
			rapid.Map(rapid.MapOfN(names, rapid.Deferred(func() *rapid.Generator[any] { return value(depth - 1) }), 0, 3), func(m map[string]any) any { return m }),
			rapid.Map(rapid.SliceOfN(rapid.Deferred(func() *rapid.Generator[any] { return value(depth - 1) }), 0, 3), func(l []any) any { return l }))
	}
	rapid.Check(t, func(t *rapid.T) {
		v := value(4).Draw(t, "document")
		before, err := json.Marshal(v)
		require.NoError(t, err)
		found := credential.Check("config", v)
		masked := credential.Masked(v)
		after, err := json.Marshal(v)
		require.NoError(t, err)
		require.Equal(t, string(before), string(after), "the original")
		out, err := json.Marshal(masked)
		require.NoError(t, err)
		if len(found) == 0 {
			require.JSONEq(t, string(before), string(out))
		}
		for _, f := range credential.Check("config", masked) {
			require.Contains(t, f.Message+f.Field, "mask", "only masks are left: %s", out)
		}
	})
}
