package source

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/workflow"
	"github.com/agentflow/agentflow/services/executor/internal/egress"
	"github.com/agentflow/agentflow/services/executor/internal/secret"
)

// call is one outside call on its way: who asks, which source, and the secrets it has used.
type call struct {
	*Sources
	caller   Caller
	source   workflow.Source
	config   config
	provider string
	masker   *secret.Masker // of the caller's tenant
	seen     secret.Seen
	logged   []zap.Field // what the debug log says beyond the usual
}

func (s *Sources) newCall(caller Caller, src workflow.Source) *call {
	return &call{Sources: s, caller: caller, source: src, config: config(src.Config), masker: s.masks.Of(caller.Tenant)}
}

// secret resolves a variable that the field of the source's config names. to is where the value
// will be sent; nil when the value itself says where, as a connection string does.
func (c *call) secret(field, name string, to *url.URL) (string, error) {
	value, err := c.resolver.Resolve(c.caller.Tenant, name)
	if err == nil && to != nil && !c.guard.AllowsHost(to.Hostname()) {
		err = c.resolver.CheckTarget(name, to)
	}
	if err != nil {
		return "", &Error{Class: ClassSecret, Source: c.source.ID, Message: field + ": " + err.Error(), cause: err}
	}
	c.seen.Add(value)
	return value, nil
}

// derived notes text that was made from secrets, such as the token of basic authentication.
func (c *call) derived(values ...string) {
	c.masker.Add(values...)
	c.seen.Add(values...)
}

// invalid is the error of a source or request that cannot be right.
func (c *call) invalid(format string, args ...any) *Error {
	return &Error{Class: ClassInvalid, Source: c.source.ID, Message: c.masker.Mask(fmt.Sprintf(format, args...))}
}

// run makes one attempt through the breaker of the caller's tenant and source, and reports it.
func (c *call) run(ctx context.Context, attempt func(ctx context.Context) error) error {
	began := time.Now()
	ctx, span := c.span(ctx, c.source.Kind)
	err := c.breakers.do(c.breakerKey(), func() error { return c.own(ctx, attempt(ctx)) })
	err = c.own(ctx, err)
	end(span, err)
	c.report(time.Since(began), err, Usage{})
	return err
}

// own makes every error this package's own: typed, named after the source, and masked.
func (c *call) own(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	var found *Error
	if !errors.As(err, &found) {
		found = c.transport(ctx, err)
	}
	e := *found // calls that waited for the same token share one error
	e.Source = c.source.ID
	e.Code = c.masker.Mask(e.Code)
	e.Message = c.masker.Mask(e.Message)
	e.Excerpt = excerpt(c.masker.Mask(e.Excerpt))
	if _, done := e.cause.(*maskedError); e.cause != nil && !done { //nolint:errorlint // this very link
		e.cause = &maskedError{err: e.cause}
	}
	return &e
}

func (c *call) report(took time.Duration, err error, usage Usage) {
	class := ClassOf(err)
	if c.cfg.Observe != nil {
		c.cfg.Observe(Observation{
			Kind: c.source.Kind, Provider: c.provider, Class: class, Duration: took,
			Input: usage.InputTokens, Output: usage.OutputTokens,
		})
	}
	if entry := c.log.Check(zap.DebugLevel, "outside call"); entry != nil {
		fields := []zap.Field{
			zap.String("kind", c.source.Kind), zap.String("provider", c.provider), zap.String("source", c.source.ID),
			zap.String("tenant", c.caller.Tenant), zap.String("execution_id", c.caller.Execution), zap.String("node", c.caller.Node),
			zap.Duration("took", took),
		}
		if err != nil {
			fields = append(fields, zap.String("class", string(class)), zap.String("error", err.Error()))
		}
		entry.Write(append(fields, c.logged...)...)
	}
}

// breakerKey tells apart what may fail apart: inline sources have no id of their own, so the
// address is part of the key.
func (c *call) breakerKey() string {
	return strings.Join([]string{
		c.caller.Tenant, c.source.Kind, c.source.ID, c.provider,
		c.config.text("base_url"), c.config.text("connection_string_env", "dsn_env"),
	}, "\x00")
}

// transport gives an error of the network its class.
func (c *call) transport(ctx context.Context, err error) *Error {
	var large *egress.TooLargeError
	stage := egress.Stage(err)
	detail := rootText(err)
	switch {
	case errors.As(err, &large):
		return &Error{Class: ClassTooLarge, Message: large.Error() + "; ask for less, or page through it", cause: err}
	case errors.Is(err, context.Canceled) || errors.Is(ctx.Err(), context.Canceled):
		return &Error{Class: ClassCanceled, Message: "the call was given up by its caller", cause: err}
	case stage == "egress":
		return &Error{Class: ClassEgress, Message: detail, cause: err}
	case errors.Is(err, context.DeadlineExceeded) || stage == "timeout" || isTimeout(err):
		return &Error{Class: ClassTimeout, Message: "no answer within the time limit; raise timeout or ask for less", cause: err}
	case stage == "name":
		return &Error{Class: ClassNetwork, Code: "name", Message: "the host name does not resolve: " + unresolved(err), cause: err}
	case stage == "tls":
		return &Error{Class: ClassNetwork, Code: "tls", Message: "the TLS handshake failed: " + detail, cause: err}
	case stage == "tcp":
		return &Error{Class: ClassNetwork, Code: "tcp", Message: "the connection failed: " + broken(err), cause: err}
	default:
		return &Error{Class: ClassNetwork, Message: "the call failed: " + detail, cause: err}
	}
}

// broken says how a connection failed, without our own end of it.
func broken(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Source != nil && op.Addr != nil {
		return op.Op + " " + op.Net + " " + op.Addr.String() + ": " + excerpt(op.Err.Error())
	}
	return rootText(err)
}

// unresolved says why a name has no address. Where this platform asks is none of a tenant's business.
func unresolved(err error) string {
	var dns *net.DNSError
	switch {
	case !errors.As(err, &dns):
		return "no answer"
	case dns.IsNotFound:
		return "no such host: " + excerpt(dns.Name)
	default:
		return "no answer about " + excerpt(dns.Name)
	}
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// rootText is what an error says without the URL that net/http puts in front: a query may hold
// what the workflow's user typed.
func rootText(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		return excerpt(u.Err.Error())
	}
	return excerpt(err.Error())
}

// statusError gives an HTTP status its class. body is the start of the answer.
func statusError(status int, header http.Header, code, message, body string) *Error {
	e := &Error{Status: status, Code: code, Message: message, Excerpt: body, RetryAfter: retryAfter(header, time.Now())}
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusProxyAuthRequired:
		e.Class = ClassAuth
	case status == http.StatusTooManyRequests:
		e.Class = Class429
	case status == http.StatusRequestTimeout || status == http.StatusGatewayTimeout:
		e.Class = ClassTimeout
	case status >= 500:
		e.Class = Class5xx
	default:
		e.Class = Class4xx
	}
	return e
}

// maxRetryAfter bounds what a peer can make us wait: a mistaken date must not park a node for years.
const maxRetryAfter = 24 * time.Hour

// retryAfter reads Retry-After (seconds or a date) and OpenAI's retry-after-ms; 0 when there is none.
func retryAfter(h http.Header, now time.Time) time.Duration {
	if ms, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64); err == nil && ms > 0 {
		return min(time.Duration(min(ms, 1e10))*time.Millisecond, maxRetryAfter)
	}
	value := strings.TrimSpace(h.Get("Retry-After"))
	if value == "" {
		return 0
	}
	if s, err := strconv.ParseFloat(value, 64); err == nil {
		if s <= 0 {
			return 0
		}
		return min(time.Duration(min(s, 1e6)*float64(time.Second)), maxRetryAfter)
	}
	if at, err := http.ParseTime(value); err == nil && at.After(now) {
		return min(at.Sub(now), maxRetryAfter)
	}
	return 0
}

// deadline narrows ctx to the smallest limit that is set.
func deadline(ctx context.Context, limits ...time.Duration) (context.Context, context.CancelFunc) {
	for _, limit := range limits {
		if limit > 0 {
			return context.WithTimeout(ctx, limit)
		}
	}
	return context.WithCancel(ctx)
}
