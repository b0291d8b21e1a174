package protocol

import (
	"fmt"
	"regexp"
	"strings"
)

// TenantID names a tenant. It is a subject token, part of keys in Redis and of the names of
// environment variables, so its alphabet is small.
type TenantID string

// ExecutionID names one execution: exec_ and a sortable suffix.
type ExecutionID string

var tenantPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

// Check tells whether the id may name a tenant.
func (t TenantID) Check() error {
	if !tenantPattern.MatchString(string(t)) {
		return &Error{
			Code: CodeInvalid, Field: "tenant_id",
			Message: fmt.Sprintf("tenant id %q must be 1-63 characters of a-z, 0-9, '_' or '-' and start with a letter or digit", string(t)),
		}
	}
	return nil
}

// Token makes any text safe as one subject token: everything but letters, digits, '_' and '-'
// becomes =XX in hexadecimal. The mapping is injective, so two ids never share a subject.
func Token(s string) string {
	if s == "" {
		return "="
	}
	safe := true
	for i := range len(s) {
		if !tokenByte(s[i]) {
			safe = false
			break
		}
	}
	if safe {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if tokenByte(s[i]) {
			b.WriteByte(s[i])
		} else {
			fmt.Fprintf(&b, "=%02X", s[i])
		}
	}
	return b.String()
}

func tokenByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '-'
}
