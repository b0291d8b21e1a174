// Package secret resolves the environment variables that sources name, under a policy that keeps
// tenants apart and the platform's own variables out of reach, and masks the values wherever text
// leaves the process.
//
// It stores nothing: a value lives in the environment, in the call that uses it and in the masker.
package secret

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Policy says which tenant may name which environment variable.
type Policy struct {
	allow    []string        // names and patterns with * that every tenant may use
	defaults bool            // allow is the default list: provider keys are bound to their provider
	platform map[string]bool // names that nobody may read
}

// wellKnown are the shared provider keys of the default policy, with the hosts that they are for.
// A tenant chooses the base URL of its source, so without the binding it could have the platform's
// key sent to a host of its own. Listing a name in SECRETS_ALLOW lifts its binding.
var wellKnown = map[string][]string{
	"OPENAI_API_KEY":       {"api.openai.com"},
	"GROQ_API_KEY":         {"api.groq.com"},
	"ANTHROPIC_API_KEY":    {"api.anthropic.com"},
	"GEMINI_API_KEY":       {"generativelanguage.googleapis.com"},
	"GOOGLE_API_KEY":       {"generativelanguage.googleapis.com"},
	"AZURE_OPENAI_API_KEY": {"*.openai.azure.com", "*.cognitiveservices.azure.com", "*.services.ai.azure.com"},
	"MISTRAL_API_KEY":      {"api.mistral.ai"},
	"DEEPSEEK_API_KEY":     {"api.deepseek.com"},
	"OPENROUTER_API_KEY":   {"openrouter.ai"},
	"TOGETHER_API_KEY":     {"api.together.xyz", "api.together.ai"},
	"OLLAMA_API_KEY":       {"ollama.com"},
}

// sharedPrefix starts the variables an operator shares with every tenant on purpose.
const sharedPrefix = "AGENTFLOW_SECRET_"

// platformNames and platformPrefixes are the platform's own configuration, what its libraries read,
// and what the machine gives a process. They hold no tenant's secret, and they are refused even
// when SECRETS_ALLOW says *.
var (
	platformNames = []string{
		"DATABASE_URL", "SENTRY_DSN", "SECRETS_ALLOW", "EGRESS_ALLOW", "AUTH_REQUIRED", "HOT_LOG_GRACE",
		"PATH", "HOME", "USER", "SHELL", "HOSTNAME", "LOGNAME", "MAIL", "PWD", "TMPDIR",
		"GOOGLE_APPLICATION_CREDENTIALS", "SSH_AUTH_SOCK",
		"PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGPASSFILE", "PGSERVICE", "PGSERVICEFILE",
		"PGOPTIONS", "PGSSLKEY", "PGSSLCERT", "PGSSLROOTCERT", "PGSSLPASSWORD",
	}
	platformPrefixes = []string{
		"AGENTFLOW_", "DATABASE_", "DB_", "POSTGRES_", "REDIS_", "NATS_", "SENTRY_",
		"RATE_LIMIT_", "OTEL_", "KUBERNETES_", "AWS_", "LD_", "DOCKER_",
	}
)

var namePattern = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// NewPolicy reads SECRETS_ALLOW: comma-separated names, in which * stands for any characters. An
// empty text means the well-known provider keys and AGENTFLOW_SECRET_*. The platform names are
// never readable, whatever the list says.
func NewPolicy(allow string, platform ...string) (Policy, error) {
	p := Policy{platform: map[string]bool{}}
	for _, name := range slices.Concat(platformNames, platform) {
		p.platform[strings.ToUpper(name)] = true
	}
	for item := range strings.SplitSeq(allow, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		if !namePattern.MatchString(strings.ReplaceAll(item, "*", "_")) {
			return Policy{}, fmt.Errorf("%q is not the name of an environment variable", item)
		}
		p.allow = append(p.allow, item)
	}
	if len(p.allow) == 0 {
		p.defaults = true
		for name := range wellKnown {
			p.allow = append(p.allow, name)
		}
		p.allow = append(p.allow, sharedPrefix+"*")
	}
	return p, nil
}

// DeniedError is the error of a variable a tenant may not name.
type DeniedError struct {
	Name   string
	Tenant string
	Reason string
}

func (e *DeniedError) Error() string {
	return fmt.Sprintf("environment variable %s may not be used: %s; this tenant may name %s* and what SECRETS_ALLOW lists",
		e.Name, e.Reason, Prefix(e.Tenant))
}

// Check tells whether the tenant may name the variable. It does not say whether it is set.
func (p Policy) Check(tenant, name string) error {
	switch {
	case !namePattern.MatchString(name):
		return &DeniedError{Name: fmt.Sprintf("%.64q", name), Tenant: tenant, Reason: "it is not the name of an environment variable"}
	case p.isPlatform(name):
		return &DeniedError{Name: name, Tenant: tenant, Reason: "it belongs to the platform"}
	case strings.HasPrefix(strings.ToUpper(name), "TENANT_"):
		// The tenants' own space is never opened by SECRETS_ALLOW, not even by *.
		if prefix := Prefix(tenant); strings.HasPrefix(name, prefix) && len(name) > len(prefix) {
			return nil
		}
		return &DeniedError{Name: name, Tenant: tenant, Reason: "it belongs to another tenant"}
	}
	for _, pattern := range p.allow {
		if ok, err := path.Match(pattern, name); err == nil && ok {
			return nil
		}
	}
	return &DeniedError{Name: name, Tenant: tenant, Reason: "SECRETS_ALLOW does not list it"}
}

func (p Policy) isPlatform(name string) bool {
	name = strings.ToUpper(name)
	if p.platform[name] {
		return true
	}
	if strings.HasPrefix(name, sharedPrefix) {
		return false
	}
	for _, prefix := range platformPrefixes {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// Hosts returns the host patterns a shared key is bound to; none means any host.
func (p Policy) Hosts(name string) []string {
	if !p.defaults {
		return nil
	}
	return wellKnown[name]
}

// Prefix is the start of the variables that belong to one tenant.
//
// An id of lower-case letters and digits alone gives TENANT_ACME_. Any other id would be ambiguous
// in that form (is TENANT_A_B_KEY the KEY of a_b, the KEY of a-b or the B_KEY of a?), so it is
// fenced by double underscores and every other byte is spelled out: a-b gives TENANT__A_B__ and
// a_b gives TENANT__Ax5fB__. No prefix of one tenant starts the prefix of another.
func Prefix(tenant string) string {
	plain := tenant != ""
	for i := range len(tenant) {
		plain = plain && lowerAlnum(tenant[i])
	}
	if plain {
		return "TENANT_" + strings.ToUpper(tenant) + "_"
	}
	var b strings.Builder
	b.WriteString("TENANT__")
	for i := range len(tenant) {
		c := tenant[i]
		switch {
		case lowerAlnum(c):
			b.WriteString(strings.ToUpper(string(c)))
		case c == '-' && i > 0 && i < len(tenant)-1 && lowerAlnum(tenant[i-1]) && lowerAlnum(tenant[i+1]):
			b.WriteByte('_') // alone between letters: never part of a double underscore
		default:
			fmt.Fprintf(&b, "x%02x", c)
		}
	}
	b.WriteString("__")
	return b.String()
}

func lowerAlnum(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }
