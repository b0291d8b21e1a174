package secret

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func policy(t *testing.T, allow string, platform ...string) Policy {
	t.Helper()
	p, err := NewPolicy(allow, platform...)
	require.NoError(t, err)
	return p
}

func TestDefaultPolicy(t *testing.T) {
	p := policy(t, "")
	for _, name := range []string{
		"OPENAI_API_KEY", "GROQ_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY", "AZURE_OPENAI_API_KEY",
		"AGENTFLOW_SECRET_CRM", "TENANT_ACME_KEY", "TENANT_ACME_DATABASE_URL",
	} {
		require.NoError(t, p.Check("acme", name), name)
	}
	for _, name := range []string{
		"DATABASE_URL", "database_url", "Database_Url", "REDIS_URL", "NATS_URL", "NATS_PASSWORD", "SENTRY_DSN", "AGENTFLOW_ADMIN_KEY",
		"DB_POOL_SIZE", "POSTGRES_PASSWORD", "PGPASSWORD", "RATE_LIMIT_FAIL", "SECRETS_ALLOW", "EGRESS_ALLOW", "AWS_SECRET_ACCESS_KEY",
		"PATH", "HOME", "OTEL_EXPORTER_OTLP_HEADERS", "KUBERNETES_SERVICE_HOST", "MY_KEY", "OPENAI_API_KEY_2", "AGENTFLOW_SECRET",
		"TENANT_OTHER_KEY", "TENANT_ACME_", "TENANT_ACME", "TENANT_ACMEX_KEY", "TENANT__ACME__KEY", "tenant_acme_key", "TENANT_acme_KEY",
		"", "A B", "OPENAI_API_KEY\n", "../x", "A=B", "$HOME", strings.Repeat("A", 100) + "!",
	} {
		err := p.Check("acme", name)
		var denied *DeniedError
		require.ErrorAs(t, err, &denied, name)
		require.Less(t, len(err.Error()), 400, name)
	}
}

func TestSecretsAllow(t *testing.T) {
	p := policy(t, "CRM_KEY, SHARED_*,*_TOKEN")
	for _, name := range []string{"CRM_KEY", "SHARED_A", "X_TOKEN", "TENANT_A_X"} {
		require.NoError(t, p.Check("a", name), name)
	}
	require.Error(t, p.Check("a", "OPENAI_API_KEY"), "a list of one's own replaces the default one")
	require.Error(t, p.Check("a", "NATS_TOKEN"), "the platform's own, whatever a pattern says")

	all := policy(t, "*", "EXECUTOR_SIGNING_KEY")
	require.NoError(t, all.Check("a", "ANYTHING"))
	for _, name := range []string{
		"DATABASE_URL", "REDIS_URL", "NATS_CREDS", "SENTRY_DSN", "AGENTFLOW_ADMIN_KEY", "EXECUTOR_SIGNING_KEY", "executor_signing_key",
		"TENANT_B_KEY", "TENANT__A_B__KEY",
	} {
		require.Error(t, all.Check("a", name), name)
	}
	for _, bad := range []string{"A B", "1X", "A-B", "A,B C"} {
		_, err := NewPolicy(bad)
		require.Error(t, err, bad)
	}
}

func TestPrefixes(t *testing.T) {
	for tenant, want := range map[string]string{
		"acme": "TENANT_ACME_", "a1": "TENANT_A1_", "a-b": "TENANT__A_B__", "a_b": "TENANT__Ax5fB__",
		"a--b": "TENANT__Ax2dx2dB__", "a-": "TENANT__Ax2d__", "a-b-c": "TENANT__A_B_C__", "": "TENANT____",
	} {
		require.Equal(t, want, Prefix(tenant), tenant)
	}
}

// No variable may belong to two tenants, however their ids are put together.
func TestNoTwoTenantsShareAVariable(t *testing.T) {
	p := policy(t, "*")
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringMatching(`[a-z0-9][a-z0-9_-]{0,8}`)
		// A second id that often extends or respells the first finds what two random ones would not.
		a := id.Draw(t, "a")
		b := rapid.OneOf(id,
			rapid.Map(id, func(s string) string { return a + "_" + s }),
			rapid.Map(id, func(s string) string { return a + "-" + s }),
			rapid.Just(strings.ReplaceAll(a, "-", "_")), rapid.Just(strings.ReplaceAll(a, "_", "-")),
			rapid.Just(a+"__x"), rapid.Just(a+"x5f"), rapid.Just(a+"--x"),
		).Draw(t, "b")
		rest := rapid.StringMatching(`[A-Za-z_][A-Za-z0-9_]{0,10}`).Draw(t, "rest")
		name := Prefix(a) + rest
		if err := p.Check(a, name); err != nil {
			t.Fatalf("%s cannot read its own %s: %v", a, name, err)
		}
		if a != b && p.Check(b, name) == nil {
			t.Fatalf("%s and %s can both read %s", a, b, name)
		}
		if a != b && strings.HasPrefix(Prefix(a), Prefix(b)) {
			t.Fatalf("%s starts with %s", Prefix(a), Prefix(b))
		}
	})
}

func TestSharedKeysAreBoundToTheirProvider(t *testing.T) {
	lookup := func(name string) (string, bool) { return "value-of-" + name, true }
	r := NewResolver(policy(t, ""), lookup, NewMaskers())
	require.NoError(t, r.CheckTarget("OPENAI_API_KEY", &url.URL{Scheme: "https", Host: "API.openai.com."}))
	require.NoError(t, r.CheckTarget("AZURE_OPENAI_API_KEY", &url.URL{Scheme: "https", Host: "mine.openai.azure.com"}))
	require.NoError(t, r.CheckTarget("AGENTFLOW_SECRET_X", &url.URL{Scheme: "https", Host: "anything.example"}))
	for _, host := range []string{"evil.example", "api.openai.com.evil.example", "xapi.openai.com", ""} {
		var bound *BoundError
		require.ErrorAs(t, r.CheckTarget("OPENAI_API_KEY", &url.URL{Scheme: "https", Host: host}), &bound, host)
	}
	require.Error(t, r.CheckTarget("AZURE_OPENAI_API_KEY", &url.URL{Scheme: "https", Host: "openai.azure.com.evil.example"}))
	var bound *BoundError
	require.ErrorAs(t, r.CheckTarget("OPENAI_API_KEY", &url.URL{Scheme: "http", Host: "api.openai.com"}), &bound, "in clear text")
	listed := NewResolver(policy(t, "OPENAI_API_KEY"), lookup, NewMaskers())
	require.NoError(t, listed.CheckTarget("OPENAI_API_KEY", &url.URL{Scheme: "https", Host: "proxy.example"}), "the operator has said so")
}

func TestResolve(t *testing.T) {
	env := map[string]string{"TENANT_A_KEY": " planted-value\n", "TENANT_A_EMPTY": "  "}
	masks := NewMaskers()
	r := NewResolver(policy(t, ""), func(name string) (string, bool) { v, ok := env[name]; return v, ok }, masks)
	value, err := r.Resolve("a", "TENANT_A_KEY")
	require.NoError(t, err)
	require.Equal(t, "planted-value", value)
	require.Equal(t, "got "+Mask, masks.Of("a").Mask("got planted-value"))
	require.Equal(t, "got planted-value", masks.Of("b").Mask("got planted-value"), "it would tell b a secret of a")
	for _, name := range []string{"TENANT_A_NONE", "TENANT_A_EMPTY"} {
		_, err = r.Resolve("a", name)
		var missing *MissingError
		require.ErrorAs(t, err, &missing)
		require.ErrorContains(t, err, name)
	}
	_, err = r.Resolve("b", "TENANT_A_KEY")
	require.ErrorContains(t, err, "another tenant")
	require.NotContains(t, err.Error(), "planted")
}

func TestMaskerKnowsEveryForm(t *testing.T) {
	value := `p@ss/w"ord+1 2&3=é`
	m := NewMasker()
	require.Equal(t, value, m.Mask(value), "nothing is masked before it is known")
	m.Add(value, "user:"+value)
	for _, form := range []string{
		value, url.QueryEscape(value), url.PathEscape(value), strings.ReplaceAll(value, `"`, `\"`),
		base64.StdEncoding.EncodeToString([]byte(value)), base64.RawURLEncoding.EncodeToString([]byte(value)),
		base64.StdEncoding.EncodeToString([]byte("user:" + value)),
		`p@ss\/w\"ord+1 2&3=é`, // as PHP writes JSON
	} {
		require.Equal(t, "<"+Mask+">", m.Mask("<"+form+">"), form)
	}
}

func TestMaskerTakesTheLongestFirst(t *testing.T) {
	m := NewMasker()
	m.Add("abcd", "abcdefgh")
	require.Equal(t, Mask, m.Mask("abcdefgh"), "the tail of the longer secret must not stay")
	m.Add("abc")
	require.Equal(t, "abc", m.Mask("abc"), "too short to be a secret")
}

func TestMaskerIsBounded(t *testing.T) {
	m := NewMasker()
	for i := range 3000 {
		m.Add(fmt.Sprintf("token-number-%d-%%", i))
	}
	require.LessOrEqual(t, len(m.forms), maxForms)
	require.Len(t, m.known, len(m.forms))
	m.Add("the-last-one")
	require.Equal(t, Mask, m.Mask("the-last-one"))
}

func TestSeenMasksOnlyItsOwn(t *testing.T) {
	var s Seen
	require.False(t, s.Any())
	s.Add("planted-value")
	require.True(t, s.Any())
	require.Equal(t, `{"a":"`+Mask+`"}`, s.Mask(`{"a":"planted-value"}`))
	text := "nothing here"
	require.Equal(t, text, s.Mask(text))
}

func TestStreamMasksAcrossPieces(t *testing.T) {
	text := "the key is planted-value, and planted-valor is none; planted"
	want := "the key is " + Mask + ", and planted-valor is none; planted"
	for size := 1; size <= len(text); size++ {
		var s Seen
		var got strings.Builder
		stream := s.Stream(func(piece string) { got.WriteString(piece) })
		s.Add("planted-value")
		for i := 0; i < len(text); i += size {
			stream.Write(text[i:min(i+size, len(text))])
		}
		stream.Flush()
		stream.Flush()
		require.Equal(t, want, got.String(), "pieces of %d", size)
	}
	var pieces []string
	var s Seen
	stream := s.Stream(func(piece string) { pieces = append(pieces, piece) })
	stream.Write("a")
	stream.Write("b")
	require.Equal(t, []string{"a", "b"}, pieces, "without a secret nothing waits")
}
