package service

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// Limits of what people write.
const (
	maxName        = 200
	maxDescription = 10_000
)

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// quote shows what somebody sent, within bounds.
func quote(s string) string {
	const limit = 100
	if utf8.RuneCountInString(s) > limit {
		s = string([]rune(s)[:limit]) + "…"
	}
	return strconv.Quote(s)
}

// checkName refuses names that nobody could read or tell apart.
func checkName(name string) error {
	const field = "name"
	switch {
	case strings.TrimSpace(name) == "":
		return refuse(protocol.CodeInvalid, field, field+" must not be empty")
	case strings.ContainsFunc(name, unicode.IsControl):
		return refuse(protocol.CodeInvalid, field, field+" must not hold control characters")
	}
	return checkText(field, name, maxName)
}

// checkText refuses text that is too long or that no table can hold.
func checkText(field, text string, limit int) error {
	switch {
	case utf8.RuneCountInString(text) > limit:
		return refuse(protocol.CodeInvalid, field, fmt.Sprintf("%s must have at most %d characters", field, limit))
	case strings.ContainsRune(text, 0):
		return refuse(protocol.CodeInvalid, field, field+" must not hold the character U+0000")
	case !utf8.ValidString(text):
		return refuse(protocol.CodeInvalid, field, field+" must be valid UTF-8")
	}
	return nil
}

func checkLimits(l *protocol.TenantLimits) error {
	if l == nil {
		return nil
	}
	for _, limit := range []struct {
		field string
		value *int
	}{
		{"max_messages_per_second", l.MessagesPerSecond},
		{"max_requests_per_minute", l.RequestsPerMinute},
		{"max_tokens_per_minute", l.TokensPerMinute},
		{"burst_size", l.BurstSize},
	} {
		if limit.value != nil && (*limit.value < 0 || *limit.value > 1_000_000_000) {
			return refuse(protocol.CodeInvalid, "limits."+limit.field, limit.field+" must be between 0 (no limit) and 1000000000")
		}
	}
	return nil
}

// checkVersion holds If-Match: 0 matches everything.
func checkVersion(want, have int) error {
	if want != 0 && want != have {
		return &protocol.Error{
			Code: protocol.CodeVersionMismatch, Field: "version",
			Message: fmt.Sprintf("the version is %d, not %d: read it again and repeat the change", have, want),
			Details: map[string]int{"version": have},
		}
	}
	return nil
}

// checkTenant refuses work in a tenant that is not there or may not work.
func (r *room) checkTenant() error {
	switch r.tenant {
	case protocol.StatusActive:
		return nil
	case protocol.StatusSuspended:
		return refuse(protocol.CodeForbidden, "tenant_id", "the tenant is suspended")
	}
	return refuse(protocol.CodeNotFound, "tenant_id", "there is no tenant "+quote(string(r.cmd.Tenant)))
}
