package workflow

import "strings"

// SourceKind is one kind of system outside that nodes use.
type SourceKind struct {
	Name           string
	Description    string
	RequiredConfig []string
	OptionalConfig []string

	check func(config Fields)
}

var sourceKinds = []SourceKind{
	{
		Name:           "llm",
		Description:    "A language model: Gemini, OpenAI, Groq, Anthropic, Azure or any OpenAI-compatible server.",
		RequiredConfig: []string{"model"},
		OptionalConfig: []string{
			"provider", "model_name", "api_key_env", "base_url", "temperature", "max_tokens", "top_p", "top_k",
			"timeout", "max_retries", "price_per_1k_input", "price_per_1k_output",
		},
		check: checkLLMSource,
	},
	{
		Name:           "image",
		Description:    "A model that makes images.",
		RequiredConfig: []string{},
		OptionalConfig: []string{"provider", "model", "model_name", "api_key_env", "size", "quality", "style", "base_url"},
		check:          checkImageSource,
	},
	{
		Name:           "db",
		Description:    "An SQL database, read only.",
		RequiredConfig: []string{"connection_string_env"},
		OptionalConfig: []string{"dsn_env", "pool_size", "max_overflow", "pool_timeout", "timeout"},
		check:          checkDBSource,
	},
	{
		Name:           "api",
		Description:    "An HTTP API.",
		RequiredConfig: []string{"base_url"},
		OptionalConfig: []string{
			"headers", "auth_type", "api_key_env", "auth_env", "api_key_header", "token_env", "username_env",
			"password_env", "timeout", "retries",
		},
		check: checkAPISource,
	},
}

// SourceKinds lists the kinds of sources, in the order in which clients have always seen them.
func SourceKinds() []SourceKind { return append([]SourceKind(nil), sourceKinds...) }

func sourceKind(name string) (SourceKind, bool) {
	for _, k := range sourceKinds {
		if k.Name == name {
			return k, true
		}
	}
	return SourceKind{}, false
}

func sourceKindNames() string {
	names := make([]string, len(sourceKinds))
	for i, k := range sourceKinds {
		names[i] = k.Name
	}
	return strings.Join(names, ", ")
}

// CheckSource reports what is wrong with a source on its own. field names the source in the
// problems, for example "sources[0]".
func CheckSource(s Source, field string, report func(Problem)) {
	kind, ok := sourceKind(s.Kind)
	if !ok {
		report(NewProblem(ProblemSourceKindInvalid, "", field+".kind",
			"source %s has the unknown kind %s; use one of %s", quoted(s.ID), quoted(s.Kind), sourceKindNames()))
		return
	}
	kind.check(Fields{prefix: field + ".config.", values: s.Config, report: report})
}

func checkLLMSource(c Fields) {
	provider := strings.ToLower(c.Name("provider", "gemini"))
	c.Name("model", "")
	c.Name("model_name", "")
	if !c.Has("model") && !c.Has("model_name") && provider != "echo" {
		c.Missing("model", "an llm source must name its model, for example \"model\": \"gemini-2.5-flash\"")
	}
	c.Name("api_key_env", "")
	c.Text("base_url", "")
	c.Number("temperature", 0, 0, 2)
	c.Integer("max_tokens", 1, 1, maxInteger)
	c.Number("top_p", 0, 0, 1)
	c.Integer("top_k", 0, 0, maxInteger)
	c.Seconds("timeout")
	c.Integer("max_retries", 0, 0, 100)
	c.Number("price_per_1k_input", 0, 0, maxInteger)
	c.Number("price_per_1k_output", 0, 0, maxInteger)
}

func checkImageSource(c Fields) {
	for _, key := range []string{"provider", "model", "model_name", "api_key_env", "size", "quality", "style", "base_url"} {
		c.Text(key, "")
	}
}

func checkDBSource(c Fields) {
	c.Name("connection_string_env", "")
	c.Name("dsn_env", "")
	if !c.Has("connection_string_env") && !c.Has("dsn_env") {
		c.Missing("connection_string_env",
			"a db source must name the environment variable that holds its connection string, for example \"connection_string_env\": \"ORDERS_DATABASE_URL\"")
	}
	c.Integer("pool_size", 1, 1, 1000)
	c.Integer("max_overflow", 0, 0, 1000)
	c.Seconds("pool_timeout")
	c.Seconds("timeout")
}

func checkAPISource(c Fields) {
	c.Text("base_url", "")
	checkHeaders(c)
	c.OneOf("auth_type", "", "api_key", "bearer", "basic", "oauth2", "none")
	for _, key := range []string{"api_key_env", "auth_env", "api_key_header", "token_env", "username_env", "password_env"} {
		c.Name(key, "")
	}
	c.Seconds("timeout")
	c.Integer("retries", 0, 0, 100)
}
