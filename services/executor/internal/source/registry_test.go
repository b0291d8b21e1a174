package source

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/workflow"
)

// shout is what adding a provider takes: a type with two methods, one registration and a guard.
type shout struct{}

func (shout) complete(_ context.Context, _ *call, q question) (answer, error) {
	return answer{text: strings.ToUpper(q.turns[0].text), model: q.model, finish: finishStop}, nil
}

func (shout) probe(context.Context, *call, string) error { return nil }

var _ llmAdapter = shout{}

// registerForTest takes back what the test registers.
func registerForTest(t *testing.T) {
	t.Helper()
	providers := slices.Clone(registered.providers)
	t.Cleanup(func() {
		registered.providers = providers
		delete(registered.llm, "shout")
		delete(registered.llm, "yell")
	})
	registerLLM(Provider{Name: "shout", Aliases: []string{"yell"}, Description: "Answers in capitals"}, shout{})
}

func TestAProviderIsOneFile(t *testing.T) {
	registerForTest(t)
	b := newBench(t, nil)
	for _, name := range []string{"shout", "yell", "Shout"} {
		src := makeSource("llm", "provider", name, "model", "m")
		require.Empty(t, Check(src))
		resp, err := b.LLM(t.Context(), caller(), src, LLMRequest{Prompt: "hello"})
		require.NoError(t, err)
		require.Equal(t, "HELLO", resp.Text)
		require.True(t, resp.Usage.Estimated)
		require.True(t, b.Test(t.Context(), caller(), src).Connected)
	}
	require.True(t, slices.ContainsFunc(Providers("llm"), func(p Provider) bool { return p.Name == "shout" }))
	require.Panics(t, func() { registerLLM(Provider{Name: "shout"}, shout{}) })
	require.Panics(t, func() { registerLLM(Provider{Name: "x", Aliases: []string{"yell"}}, shout{}) })
	require.Panics(t, func() { registerKind(Kind{Kind: "llm"}) })
	require.Panics(t, func() { registerSQL(Provider{Name: "another"}, postgres{}) })
}

// The tables of the manual list what is there, no more and no less.
func TestTheManualListsWhatIsRegistered(t *testing.T) {
	raw, err := os.ReadFile("../../../../docs/sources.md")
	require.NoError(t, err)
	rows := map[string][]string{}
	section := ""
	for line := range strings.SplitSeq(string(raw), "\n") {
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			section = heading
		}
		cells := strings.Split(line, "|")
		if len(cells) < 4 || strings.HasPrefix(strings.TrimSpace(cells[1]), "---") {
			continue
		}
		for i := range cells {
			cells[i] = strings.Trim(strings.TrimSpace(cells[i]), "`")
		}
		rows[section] = append(rows[section], strings.Join(cells[1:len(cells)-1], " | "))
	}
	plain := func(s string) string { return strings.ReplaceAll(s, "`", "") }
	for _, kind := range Describe() {
		var want []string
		for _, f := range kind.Required {
			want = append(want, strings.Join([]string{f.Name, f.Type, "required", f.Description}, " | "))
		}
		for _, f := range kind.Optional {
			want = append(want, strings.Join([]string{f.Name, f.Type, f.Default, f.Description}, " | "))
		}
		for _, p := range kind.Providers {
			want = append(want, strings.Join([]string{p.Name, strings.Join(p.Aliases, ", "), p.Description, strings.Join(p.KeyEnv, ", "), p.BaseURL}, " | "))
		}
		var got []string
		for _, row := range rows["Kind `"+kind.Kind+"`"] {
			row = plain(row)
			if !strings.HasPrefix(row, "key | type") && !strings.HasPrefix(row, "provider | also") {
				got = append(got, row)
			}
		}
		require.ElementsMatch(t, want, got, "kind %s; the rows that are missing:\n%s", kind.Kind, "| "+strings.Join(want, " |\n| ")+" |")
	}
	var classes []string
	for _, row := range rows["Errors"] {
		if name, _, _ := strings.Cut(plain(row), " | "); name != "class" {
			classes = append(classes, name)
		}
	}
	var want []string
	for _, class := range Classes() {
		want = append(want, string(class))
	}
	require.ElementsMatch(t, want, classes)
}

func TestCheck(t *testing.T) {
	for name, test := range map[string]struct {
		src    workflow.Source
		fields []string
	}{
		"llm":               {makeSource("llm", "model", "m"), nil},
		"llm, model_name":   {makeSource("llm", "model_name", "m"), nil},
		"echo":              {makeSource("llm", "provider", "echo"), nil},
		"no model":          {makeSource("llm", "provider", "openai"), []string{"config.model"}},
		"no base":           {makeSource("llm", "provider", "azure", "model", "m"), []string{"config.base_url"}},
		"bad base":          {makeSource("llm", "model", "m", "base_url", "ftp://x"), []string{"config.base_url"}},
		"bad numbers":       {makeSource("llm", "model", "m", "temperature", "hot", "max_tokens", -1), []string{"config.temperature", "config.max_tokens"}},
		"image":             {makeSource("image"), nil},
		"image provider":    {makeSource("image", "provider", "groq"), []string{"config.provider"}},
		"api":               {makeSource("api", "base_url", "https://x.example"), nil},
		"api header":        {makeSource("api", "headers", map[string]any{"Bad Name": "x"}), []string{"config.headers"}},
		"api header break":  {makeSource("api", "headers", map[string]any{"X": "a\r\nb"}), []string{"config.headers"}},
		"api forbidden":     {makeSource("api", "headers", map[string]any{"host": "x"}), []string{"config.headers"}},
		"basic":             {makeSource("api", "auth_type", "basic"), []string{"config.username_env", "config.password_env"}},
		"oauth2":            {makeSource("api", "token_url", "https://x"), []string{"config.client_id_env", "config.client_secret_env"}},
		"db":                {makeSource("db", "dsn_env", "TENANT_A_DB"), nil},
		"db, none":          {makeSource("db"), []string{"config.connection_string_env"}},
		"literals":          {makeSource("api", "api_key", "x", "token", "y", "password", "z"), []string{"config.api_key", "config.password", "config.token"}},
		"literal dsn":       {makeSource("db", "dsn_env", "X", "connection_string", "postgres://"), []string{"config.connection_string"}},
		"value for a name":  {makeSource("db", "dsn_env", "postgres://planted"), []string{"config.dsn_env"}},
		"number for a name": {makeSource("api", "api_key_env", 7), []string{"config.api_key_env"}},
		"kind":              {makeSource("queue"), []string{"config.kind"}},
	} {
		var got []string
		for _, p := range Check(test.src) {
			got = append(got, p.Field)
			require.NotContains(t, p.Message, "planted")
			require.Contains(t, p.Message, "the_source")
		}
		require.Equal(t, test.fields, got, name)
	}
}
