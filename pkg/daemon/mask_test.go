package daemon

import (
	"encoding/base64"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
)

func TestMaskedValuesLeaveNoLog(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"json", "console"} {
		c := quiet()
		c.LogFormat = format
		rt, out := start(t, c)
		secret := `pa"ss/wo+rd & more`
		rt.Mask(secret, "postgres://user:db-password@host/x", "", "short")
		rt.Log.Info("plain "+secret,
			zap.String("query", url.QueryEscape(secret)),
			zap.String("path", url.PathEscape(secret)),
			zap.String("basic", base64.StdEncoding.EncodeToString([]byte(secret))),
			zap.String("password", "db-password"),
			zap.String("short", "short"))
		require.NotContains(t, out.String(), "ss/wo")
		require.NotContains(t, out.String(), "wo%2Brd")
		require.NotContains(t, out.String(), "wo+rd")
		require.NotContains(t, out.String(), "db-password")
		require.NotContains(t, out.String(), base64.StdEncoding.EncodeToString([]byte(secret)))
		require.Contains(t, out.String(), "short", "values this short are not masked")
		require.Equal(t, 5, strings.Count(out.String(), masked))
	}
}

func TestMaskTakesTheLongerSecretWhole(t *testing.T) {
	t.Parallel()
	m := newMasks()
	m.add("secret-one")
	m.add("secret-one-and-a-half")
	require.Equal(t, "a "+masked+" b", m.text("a secret-one-and-a-half b"))
	require.Equal(t, masked, m.text("secret-one"))
}

func TestMaskWhileLogging(t *testing.T) {
	t.Parallel()
	rt, out := start(t, quiet())
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				rt.Mask("hunter2-hunter2")
				rt.Log.Info("it is hunter2-hunter2")
			}
		})
	}
	wg.Wait()
	require.NotContains(t, out.String(), "hunter2")
	require.Len(t, out.lines(t), 400, "lines stay whole")
}

func TestScrubText(t *testing.T) {
	t.Parallel()
	jwt := "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.s5vXhQ"
	for _, c := range []struct{ in, want string }{
		{"Authorization: Bearer abc.def-123", "Authorization: ***MASKED***"},
		{`"authorization": "Basic dXNlcjpwYXNz"`, `"authorization": "***MASKED***"`},
		{"Set-Cookie: session=abc; Path=/\nnext", "Set-Cookie: ***MASKED***\nnext"},
		{"sent bearer abcdef123456", "sent bearer ***MASKED***"},
		{"GROQ_API_KEY=abc123 PATH=/bin", "GROQ_API_KEY=***MASKED*** PATH=/bin"},
		{`{"client_secret":"x y","n":1}`, `{"client_secret":"***MASKED*** y","n":1}`},
		{"https://api.example.com/v1?api_key=abc&q=1", "https://api.example.com/v1?api_key=***MASKED***&q=1"},
		{"dial postgres://user:pass@db:5432/x: refused", "dial postgres://user:***MASKED***@db:5432/x: refused"},
		{"redis://:pass@cache", "redis://:***MASKED***@cache"},
		{"key sk-proj-abcdefghijklmnop1234 is wrong", "key ***MASKED*** is wrong"},
		{"key gsk_abcdefghijklmnop1234", "key ***MASKED***"},
		{"AIzaSyA1234567890abcdefghijklmnopqrstuv", "***MASKED***"},
		{"ghp_abcdefghijklmnopqrstuvwx", "***MASKED***"},
		{"AKIAIOSFODNN7EXAMPLE", "***MASKED***"},
		{"jwt " + jwt, "jwt ***MASKED***"},
		{"-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\nend", "***MASKED***\nend"},
		// and what must stay readable
		{"tokens_used: 17", "tokens_used: 17"},
		{"workflow wf_01 failed after 3 attempts", "workflow wf_01 failed after 3 attempts"},
		{"https://example.com:8080/path@x", "https://example.com:8080/path@x"},
	} {
		require.Equal(t, c.want, scrubText(c.in))
	}
}

func TestRuntimeScrubsText(t *testing.T) {
	t.Parallel()
	rt, _ := start(t, quiet())
	rt.Mask("the-launch-code")
	require.Equal(t, "***MASKED*** and token=***MASKED***", rt.Scrub("the-launch-code and token=abc"))
}

func TestSecretNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Authorization", "Cookie", "X-API-Key", "api_key", "apiKey", "password", "client_secret", "access_token", "DATABASE_DSN", "request_body", "body"} {
		require.True(t, isSecretName(name), name)
	}
	for _, name := range []string{"tokens_used", "tokens", "input_tokens", "max_tokens", "node", "duration_ms", "tenant"} {
		require.False(t, isSecretName(name), name)
	}
}
