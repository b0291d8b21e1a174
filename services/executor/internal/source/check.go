package source

import (
	"regexp"
	"slices"
	"sort"

	"github.com/agentflow/agentflow/pkg/workflow"
)

// checker collects the problems of one source.
type checker struct {
	source   workflow.Source
	problems []workflow.Problem
}

func (c *checker) missing(field, format string, args ...any) {
	c.add(workflow.ProblemMetadataMissing, field, format, args...)
}

func (c *checker) invalid(field, format string, args ...any) {
	c.add(workflow.ProblemMetadataInvalid, field, format, args...)
}

func (c *checker) add(kind, field, format string, args ...any) {
	args = append([]any{c.source.ID}, args...)
	c.problems = append(c.problems, workflow.NewProblem(kind, "", "config."+field, "source %s: "+format, args...))
}

func (c *checker) model(cfg config) {
	provider, err := providerOf(c.source.Kind, cfg)
	if err != nil {
		c.invalid("provider", "%s", err.Error())
		return
	}
	if c.source.Kind == "llm" && provider.Name != "echo" && cfg.text("model", "model_name") == "" {
		c.missing("model", "name a model")
	}
	for _, field := range provider.Required {
		if cfg.text(field) == "" {
			c.missing(field, "%s needs it", provider.Name)
		}
	}
	c.url(cfg, "base_url")
	c.numbers(cfg, "temperature", "max_tokens", "top_p", "top_k", "timeout", "max_retries", "price_per_1k_input", "price_per_1k_output")
}

func (c *checker) api(cfg config) {
	c.url(cfg, "base_url")
	c.url(cfg, "token_url")
	auth, err := authType(cfg)
	if err != nil {
		c.invalid("auth_type", "%s", err.Error())
	}
	for _, field := range authFields[auth] {
		if cfg.text(field...) == "" {
			c.missing(field[0], "auth_type %s needs it", auth)
		}
	}
	if name := cfg.text("api_key_header"); name != "" && !validHeaderName(name) {
		c.invalid("api_key_header", "%q is not a header name", name)
	}
	for name, value := range cfg.strings("headers") {
		if !validHeaderName(name) || forbiddenHeaders[canonical(name)] {
			c.invalid("headers", "%q may not be set", name)
		} else if !validHeaderValue(value) {
			c.invalid("headers", "the value of %q has a line break or a control character", name)
		}
	}
	c.numbers(cfg, "timeout", "retries")
}

func (c *checker) url(cfg config, field string) {
	if raw := cfg.text(field); raw != "" {
		if _, err := absoluteURL(field, raw); err != nil {
			c.invalid(field, "%s", err.Error())
		}
	}
}

func (c *checker) numbers(cfg config, fields ...string) {
	for _, field := range fields {
		if _, set := cfg[field]; !set || cfg[field] == nil {
			continue
		}
		if f, ok := cfg.float(field); !ok || f < 0 {
			c.invalid(field, "%s must be a number that is not negative", field)
		}
	}
}

// literalSecrets are the fields of earlier versions that held a secret itself, with the field
// that names a variable instead.
var literalSecrets = map[string]string{
	"api_key":           "api_key_env",
	"token":             "token_env",
	"password":          "password_env",
	"connection_string": "connection_string_env",
	"dsn":               "connection_string_env",
	"client_secret":     "client_secret_env",
}

func (c *checker) literals(cfg config) {
	for _, field := range sortedKeys(literalSecrets) {
		if _, set := cfg[field]; set {
			c.invalid(field, "a source holds no secret: put it into an environment variable of the executor and name that in %s", literalSecrets[field])
		}
	}
}

// variableFields name environment variables.
var variableFields = []string{
	"api_key_env", "auth_env", "token_env", "username_env", "password_env",
	"client_id_env", "client_secret_env", "connection_string_env", "dsn_env",
}

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (c *checker) variables(cfg config) {
	for _, field := range variableFields {
		value, set := cfg[field]
		if !set || value == nil {
			continue
		}
		if name, ok := value.(string); !ok || !variableName.MatchString(name) {
			// The value is not repeated: it may be the secret itself, put into the wrong field.
			c.invalid(field, "%s must be the name of an environment variable, not its value", field)
		}
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return slices.Clip(keys)
}
