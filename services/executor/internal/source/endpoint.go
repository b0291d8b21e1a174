package source

import (
	"errors"
	"net/url"
	"slices"
	"strings"

	"github.com/agentflow/agentflow/services/executor/internal/secret"
)

// endpoint is where a provider's API stands and the key that opens it.
type endpoint struct {
	base    *url.URL
	key     string // "" when the provider needs none and none is named
	keyName string // the variable, for messages
}

// endpoint resolves the address and the key of a provider: the source's config first, then what
// the operator set, then the provider's own.
func (c *call) endpoint(p Provider) (endpoint, error) {
	raw := first(c.config.text("base_url"), c.bases[p.Name], p.BaseURL)
	if raw == "" {
		return endpoint{}, c.invalid("base_url is missing: %s has no address of its own", p.Name)
	}
	base, err := absoluteURL("base_url", raw)
	if err != nil {
		return endpoint{}, c.invalid("%s", err.Error())
	}
	e := endpoint{base: base}
	to := base
	operators := c.config.text("base_url") == "" && c.bases[p.Name] != ""
	if e.keyName = c.config.text("api_key_env"); e.keyName != "" {
		if operators && slices.Contains(p.KeyEnv, e.keyName) {
			to = nil
		}
		e.key, err = c.secret("api_key_env", e.keyName, to)
		return e, err
	}
	if operators {
		to = nil // what the operator has set as the provider's address is trusted with the provider's key
	}
	// A key that is not set, or that policy keeps back, may have a second name.
	var refused error
	for _, name := range p.KeyEnv {
		key, err := c.secret("api_key_env", name, to)
		if err == nil {
			e.key, e.keyName = key, name
			return e, nil
		}
		var missing *secret.MissingError
		if refused == nil && !errors.As(err, &missing) {
			refused = err
		}
	}
	switch {
	case len(p.KeyEnv) == 0 || slices.Contains(keyless, p.Name):
		return e, nil
	case refused != nil:
		return endpoint{}, refused
	}
	return endpoint{}, &Error{Class: ClassSecret, Message: p.Name + " needs an API key: set " + strings.Join(p.KeyEnv, " or ") +
		" in the executor's environment, or name another variable in api_key_env"}
}

// keyless providers take a key and work without one.
var keyless = []string{"ollama"}

func mustProvider(kind, name string) Provider {
	for _, p := range registered.providers {
		if p.Kind == kind && p.Name == name {
			return p
		}
	}
	panic("source: no " + kind + " provider " + name)
}

// providerFailure is what a model provider said about a call it refused, before it has a class.
type providerFailure struct {
	name    string // of the provider
	keyName string
	model   string
	status  int
	code    string
	kind    string
	message string
}

// failure gives a provider's refusal its class and a message that says what to do.
func (f providerFailure) error(e *Error) *Error {
	text := strings.ToLower(f.code + " " + f.kind + " " + f.message)
	has := func(phrases ...string) bool {
		return slices.ContainsFunc(phrases, func(p string) bool { return strings.Contains(text, p) })
	}
	if e.Code == "" {
		e.Code = first(f.code, f.kind)
	}
	if e.Excerpt == "" {
		e.Excerpt = f.message
	}
	switch {
	case has("context_length_exceeded", "maximum context length", "context window", "prompt is too long", "input token count",
		"exceeds the maximum number of tokens", "too many input tokens", "string_above_max_length", "model_context_window_exceeded"):
		e.Class = ClassContext
		e.Message = "the prompt is longer than " + f.model + " takes: shorten it, lower max_tokens or choose a model with a larger context"
	case f.status < 500 && has("content_filter", "content_policy", "content management policy", "moderation_blocked", "safety system",
		"prohibited_content", "responsibleaipolicyviolation"):
		e.Class = ClassSafety
		e.Message = f.name + " declined the prompt for safety reasons: rephrase it"
	case f.status == 401, f.status == 400 && has("api_key_invalid", "api key not valid"):
		e.Class = ClassAuth
		e.Message = f.name + " refused the API key: check the value of " + first(f.keyName, "the variable in api_key_env")
	case f.status == 403:
		e.Class = ClassAuth
		e.Message = "the API key of " + f.name + " may not use " + f.model + ": check the account's permissions and region"
	case has("insufficient_quota", "billing_hard_limit", "credit balance is too low", "billing_error"), f.status == 402:
		e.Class, e.Code = Class429, "insufficient_quota"
		e.Message = "the account at " + f.name + " has no credit left: top it up, or use another key"
	case f.status == 404:
		e.Class = ClassInvalid
		e.Message = f.name + " does not know the model " + f.model + ", or base_url is wrong"
	case e.Class == Class429:
		e.Message = f.name + " asks for fewer calls or tokens per minute"
	case f.status == 529 || e.Class == Class5xx:
		e.Message = f.name + " failed or is overloaded"
	case e.Class == ClassTimeout:
		e.Message = f.name + " did not answer in time"
	default:
		e.Class = ClassInvalid
		e.Message = f.name + " refused the request"
	}
	return e
}
