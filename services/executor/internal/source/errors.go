package source

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Class is the kind of thing that went wrong: what a retry policy and a person decide by.
type Class string

// Classes of failure.
const (
	ClassTimeout  Class = "timeout"        // no answer in time
	ClassNetwork  Class = "network"        // name resolution, TCP, TLS, or a broken connection
	Class5xx      Class = "5xx"            // the peer failed
	Class429      Class = "429"            // the peer asks us to slow down
	Class4xx      Class = "4xx"            // the peer refuses this request
	ClassAuth     Class = "auth"           // credentials are missing, wrong or not sufficient
	ClassInvalid  Class = "invalid"        // the source or the request cannot be right
	ClassRefused  Class = "refused"        // not tried: the circuit breaker is open, or a limit of ours is reached
	ClassContext  Class = "context_length" // the prompt is longer than the model takes
	ClassSafety   Class = "safety"         // the model or its filter declined
	ClassEmpty    Class = "empty"          // the model answered nothing
	ClassFormat   Class = "format"         // the answer is not what response_format asks for
	ClassEgress   Class = "egress"         // the address is not one this platform may call
	ClassSecret   Class = "secret"         // the environment variable may not be read, or is not set
	ClassTooLarge Class = "too_large"      // the answer is over the size cap
	ClassCanceled Class = "canceled"       // the caller gave up
)

// Error is the failure of one outside call. Its text holds no secret and is safe to show.
type Error struct {
	Class      Class
	Code       string        // the peer's own code, when it gave one
	Status     int           // HTTP status, 0 when there was none
	RetryAfter time.Duration // how long the peer asks us to wait, 0 when it does not say
	Source     string        // id of the source
	Message    string        // what happened and what to do about it
	Excerpt    string        // the start of the peer's answer, bounded and masked

	cause error
}

func (e *Error) Error() string {
	var b strings.Builder
	if e.Source != "" {
		fmt.Fprintf(&b, "source %s: ", e.Source)
	}
	b.WriteString(e.Message)
	if e.Excerpt != "" && !strings.Contains(e.Message, e.Excerpt) {
		fmt.Fprintf(&b, " (%s)", e.Excerpt)
	}
	return b.String()
}

// Unwrap gives the error underneath, without its text.
func (e *Error) Unwrap() error { return e.cause }

// maskedError answers questions about an error without giving its text away: loggers and error
// trackers print every link of a chain, and a driver's error may quote what it was given.
type maskedError struct{ err error }

func (m *maskedError) Error() string        { return fmt.Sprintf("%T", m.err) }
func (m *maskedError) Is(target error) bool { return errors.Is(m.err, target) }
func (m *maskedError) As(target any) bool   { return errors.As(m.err, target) }

// Is matches any *Error of the same class, so errors.Is(err, &Error{Class: ClassAuth}) asks for the kind.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Class == e.Class && (t.Code == "" || t.Code == e.Code)
}

// Retryable tells whether the same call may succeed when it is made again.
func (e *Error) Retryable() bool {
	switch e.Class {
	case Class429:
		// A used-up quota answers 429 as well, and no wait within a retry brings it back.
		return e.Code != "insufficient_quota" && e.Code != "billing_hard_limit_reached"
	case ClassTimeout, ClassNetwork, Class5xx, ClassRefused:
		return true
	case Class4xx, ClassAuth, ClassInvalid, ClassContext, ClassSafety, ClassEmpty, ClassFormat,
		ClassEgress, ClassSecret, ClassTooLarge, ClassCanceled:
		return false
	default:
		return false
	}
}

// ClassOf returns the class an error carries, "" when it carries none.
func ClassOf(err error) Class {
	var e *Error
	if errors.As(err, &e) {
		return e.Class
	}
	return ""
}

// maxExcerpt bounds what an error repeats of a peer's answer.
const maxExcerpt = 512

// excerpt cuts text to what an error may carry, on a rune boundary and on one line.
func excerpt(text string) string {
	text = strings.ToValidUTF8(strings.Join(strings.Fields(text), " "), "\uFFFD")
	if len(text) <= maxExcerpt {
		return text
	}
	cut := maxExcerpt
	for cut > 0 && text[cut]&0xC0 == 0x80 {
		cut--
	}
	return text[:cut] + "…"
}

// Classes lists every class there is.
func Classes() []Class {
	return []Class{
		ClassTimeout, ClassNetwork, Class5xx, Class429, Class4xx, ClassAuth, ClassInvalid, ClassRefused, ClassContext,
		ClassSafety, ClassEmpty, ClassFormat, ClassEgress, ClassSecret, ClassTooLarge, ClassCanceled,
	}
}
