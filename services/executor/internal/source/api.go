package source

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/workflow"
	"github.com/agentflow/agentflow/services/executor/internal/egress"
)

func init() {
	registerKind(Kind{
		Kind: "api", Name: "HTTP API", Description: "Calls an HTTP API; every part of the request is a template.",
		Optional: []Field{
			{"base_url", "string", "", "Scheme, host and path that every endpoint stands under; without it a node gives the whole URL"},
			{"headers", "object", "", "Headers sent with every call"},
			{"auth_type", "string", "none", "none, api_key, bearer, basic or oauth2; guessed from the fields below when it is not given"},
			{"api_key_env", "env", "", "Variable with the API key; auth_env is the same"},
			{"api_key_header", "string", "X-API-Key", "Header that carries the API key"},
			{"token_env", "env", "", "Variable with the bearer token"},
			{"username_env", "env", "", "Variable with the user name (basic)"},
			{"password_env", "env", "", "Variable with the password (basic)"},
			{"token_url", "string", "", "Token endpoint (oauth2, client credentials)"},
			{"client_id_env", "env", "", "Variable with the client id (oauth2)"},
			{"client_secret_env", "env", "", "Variable with the client secret (oauth2)"},
			{"scopes", "string", "", "Scopes to ask for, an array or separated by spaces (oauth2)"},
			{"audience", "string", "", "Audience to ask for (oauth2)"},
			{"auth_style", "string", "header", "header or body: where the client id and secret stand (oauth2)"},
			{"timeout", "number", "30", "Seconds one attempt may take"},
			{"retries", "integer", "the node's", "Attempts after the first, at most 3"},
			{"test_endpoint", "string", "", "What a connection test gets; the base URL when it is not given"},
		},
	})
}

// Call makes one HTTP call. An answer of 400 and more comes back as the response and as an error.
func (s *Sources) Call(ctx context.Context, caller Caller, src workflow.Source, req HTTPRequest) (HTTPResponse, error) {
	c := s.newCall(caller, src)
	c.provider = "http"
	var resp HTTPResponse
	err := c.run(ctx, func(ctx context.Context) error {
		ctx, cancel := deadline(ctx, c.clampTimeout(req.Timeout), defaultTimeout)
		defer cancel()
		var err error
		resp, err = c.http(ctx, req)
		return err
	})
	return resp, err
}

// clampTimeout keeps a node's timeout within the source's: the source knows its peer.
func (c *call) clampTimeout(asked time.Duration) time.Duration {
	own := c.config.seconds("timeout", 0)
	if own > 0 && (asked <= 0 || asked > own) {
		return own
	}
	return asked
}

func (c *call) http(ctx context.Context, req HTTPRequest) (HTTPResponse, error) {
	httpReq, err := c.build(ctx, req)
	if err != nil {
		return HTTPResponse{}, err
	}
	auth, err := authType(c.config)
	if err != nil {
		return HTTPResponse{}, c.invalid("%s", err.Error())
	}
	c.describe(ctx, httpReq)
	if err := c.authorize(ctx, httpReq, auth); err != nil {
		return HTTPResponse{}, err
	}
	resp, err := c.apiHTTP.Do(httpReq)
	if err == nil && resp.StatusCode == http.StatusUnauthorized && auth == authOAuth2 && replayable(httpReq) {
		// The peer may have ended a token before its time. A 401 did nothing, so asking once more
		// with a new token is still one attempt.
		if err := drain(resp); err != nil {
			return HTTPResponse{}, err
		}
		if httpReq, err = c.renew(ctx, httpReq); err != nil {
			return HTTPResponse{}, err
		}
		resp, err = c.apiHTTP.Do(httpReq) //nolint:bodyclose // answer reads and closes it
	}
	if err != nil {
		return HTTPResponse{}, err
	}
	c.logged = append(c.logged, zap.Int("status", resp.StatusCode), zap.Int64("length", resp.ContentLength))
	trace.SpanFromContext(ctx).SetAttributes(attribute.Int("http.response.status_code", resp.StatusCode))
	return c.answer(ctx, resp, req.Response)
}

// describe names the call in the log and the span: method and host, but no path, no query and no
// header, since values have a part in them.
func (c *call) describe(ctx context.Context, req *http.Request) {
	c.logged = append(c.logged, zap.String("method", req.Method), zap.String("host", req.URL.Host))
	span := trace.SpanFromContext(ctx)
	span.SetName(req.Method)
	span.SetAttributes(attribute.String("http.request.method", req.Method), attribute.String("server.address", req.URL.Hostname()))
}

func replayable(req *http.Request) bool { return req.Body == nil || req.GetBody != nil }

func drain(resp *http.Response) error {
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // only so that the connection can be used again
	return resp.Body.Close()
}

// build fills the request's templates.
func (c *call) build(ctx context.Context, req HTTPRequest) (*http.Request, error) {
	method := strings.ToUpper(strings.TrimSpace(req.Method))
	switch method {
	case "":
		method = http.MethodGet
	case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodHead, http.MethodOptions:
	default:
		return nil, c.invalid("method %.20q is not one of GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS", req.Method)
	}
	target, err := c.target(req)
	if err != nil {
		return nil, err
	}
	header, err := c.headers(req)
	if err != nil {
		return nil, err
	}
	body, contentType, err := c.body(req, header.Get("Content-Type"))
	if err != nil {
		return nil, err
	}
	httpReq, err := http.NewRequestWithContext(ctx, method, target.String(), body)
	if err != nil {
		return nil, c.invalid("the request cannot be made: %s", rootText(err))
	}
	httpReq.Header = header
	if contentType != "" && header.Get("Content-Type") == "" {
		header.Set("Content-Type", contentType)
	}
	if header.Get("Idempotency-Key") == "" && c.caller.IdempotencyKey != "" {
		header.Set("Idempotency-Key", c.caller.IdempotencyKey)
	}
	if header.Get("User-Agent") == "" {
		header.Set("User-Agent", "agentflow")
	}
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(header))
	return httpReq, nil
}

// answer reads and judges a response.
func (c *call) answer(ctx context.Context, resp *http.Response, mode string) (HTTPResponse, error) {
	out := HTTPResponse{
		StatusCode: resp.StatusCode,
		Success:    resp.StatusCode < 400,
		Headers:    make(map[string]string, len(resp.Header)),
	}
	for name, values := range resp.Header {
		if name != "Set-Cookie" { // a session of ours is nobody's data
			out.Headers[strings.ToLower(name)] = c.seen.Mask(strings.Join(values, ", "))
		}
	}
	raw, err := readBody(resp)
	if err != nil {
		return HTTPResponse{}, err
	}
	contentType := resp.Header.Get("Content-Type")
	if !out.Success {
		// What the peer says about its failure is worth having, and no reason to fail twice.
		text := c.seen.Mask(raw)
		out.Data = c.lenientData(text, contentType)
		return out, statusError(resp.StatusCode, resp.Header, "", statusMessage(resp.StatusCode), text)
	}
	out.Data, err = c.data(ctx, raw, contentType, mode)
	return out, err
}

func statusMessage(status int) string {
	text := http.StatusText(status)
	if text == "" {
		text = "an unusual status"
	}
	what := fmt.Sprintf("the API answered %d %s", status, text)
	switch status {
	case http.StatusUnauthorized:
		return what + ": check the credentials that the source names"
	case http.StatusForbidden:
		return what + ": the credentials do not permit this call"
	case http.StatusNotFound:
		return what + ": check base_url and endpoint"
	case http.StatusTooManyRequests:
		return what + ": its rate limit is used up"
	default:
		return what
	}
}

// RetryPolicy is what a source's own retries setting makes of a node's retry policy; the zero
// value leaves the node's as it is. hasIdempotencyKey says that calls carry an Idempotency-Key,
// as the engine's always do: with it even a POST may be sent again.
func RetryPolicy(src workflow.Source, method string, hasIdempotencyKey bool) workflow.Retry {
	cfg := config(src.Config)
	key := "retries"
	if src.Kind == "llm" || src.Kind == "image" {
		key = "max_retries"
	}
	if src.Kind == "api" && !hasIdempotencyKey && !idempotent(method) {
		return workflow.Retry{MaxAttempts: 1}
	}
	retries, ok := cfg.integer(key)
	if !ok || retries < 0 {
		return workflow.Retry{}
	}
	return workflow.Retry{
		MaxAttempts: 1 + min(retries, maxRetries), InitialInterval: 500 * time.Millisecond, Backoff: 2, MaxInterval: 30 * time.Second,
	}
}

// maxRetries is the most a source may ask for.
const maxRetries = 3

func idempotent(method string) bool {
	switch strings.ToUpper(method) {
	case "", http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete, http.MethodOptions:
		return true
	}
	return false
}

// probeAPI makes the cheapest call there is: it proves name, address, TLS and credentials.
func (c *call) probeAPI(ctx context.Context) error {
	endpoint := c.config.text("test_endpoint")
	if endpoint == "" && c.config.text("base_url") == "" {
		return c.invalid("the source has neither base_url nor test_endpoint: there is nothing to test")
	}
	req, err := c.build(ctx, HTTPRequest{Endpoint: endpoint})
	if err != nil {
		return err
	}
	auth, err := authType(c.config)
	if err != nil {
		return c.invalid("%s", err.Error())
	}
	if err := c.authorize(ctx, req, auth); err != nil {
		return err
	}
	req.Header.Del("Idempotency-Key")
	resp, err := c.apiHTTP.Do(req)
	if err != nil {
		return err
	}
	if err := drain(resp); err != nil && egress.Stage(err) != "" {
		return err
	}
	switch {
	case resp.StatusCode == http.StatusUnauthorized, resp.StatusCode == http.StatusForbidden, resp.StatusCode >= 500,
		endpoint != "" && resp.StatusCode >= 400:
		return statusError(resp.StatusCode, resp.Header, "", statusMessage(resp.StatusCode), "")
	}
	return nil // a 404 on the bare base URL is an API that is there
}
