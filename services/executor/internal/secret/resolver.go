package secret

import (
	"fmt"
	"net/url"
	"strings"
)

// MissingError is the error of a variable that may be named but is not set.
type MissingError struct{ Name string }

func (e *MissingError) Error() string {
	return fmt.Sprintf("environment variable %s is not set in the executor", e.Name)
}

// BoundError is the error of a shared provider key that would leave for another host than its provider's, or
// in clear text.
type BoundError struct {
	Name string
	To   string // scheme and host
}

func (e *BoundError) Error() string {
	return fmt.Sprintf("%s is a key shared by all tenants and is not sent to %s; name a variable of this tenant instead, "+
		"or let the operator list %s in SECRETS_ALLOW or the host in EGRESS_ALLOW", e.Name, e.To, e.Name)
}

// Resolver turns names into values.
type Resolver struct {
	policy Policy
	lookup func(string) (string, bool)
	masks  *Maskers
}

// NewResolver reads variables through lookup under a policy. Every value it gives out is known to
// the tenant's masker before the caller has it.
func NewResolver(policy Policy, lookup func(string) (string, bool), masks *Maskers) *Resolver {
	return &Resolver{policy: policy, lookup: lookup, masks: masks}
}

// Resolve answers the value of a variable for a tenant.
func (r *Resolver) Resolve(tenant, name string) (string, error) {
	if err := r.policy.Check(tenant, name); err != nil {
		return "", err
	}
	value, ok := r.lookup(name)
	// A file mounted as a variable ends in a newline more often than not.
	value = strings.TrimSpace(value)
	if !ok || value == "" {
		return "", &MissingError{Name: name}
	}
	r.masks.Of(tenant).Add(value)
	return value, nil
}

// CheckTarget tells whether the value of name may be sent to a URL. Whoever sits on the way reads what goes by http.
func (r *Resolver) CheckTarget(name string, to *url.URL) error {
	patterns := r.policy.Hosts(name)
	if len(patterns) == 0 {
		return nil
	}
	host := strings.TrimSuffix(strings.ToLower(to.Hostname()), ".")
	for _, pattern := range patterns {
		if zone, ok := strings.CutPrefix(pattern, "*"); to.Scheme == "https" && (ok && strings.HasSuffix(host, zone) || host == pattern) {
			return nil
		}
	}
	return &BoundError{Name: name, To: to.Scheme + "://" + host}
}
