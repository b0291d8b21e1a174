package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxRedirects is how many hops a call may take.
const maxRedirects = 5

// Transport is a connection pool behind the guard. It takes no proxy from the environment: a
// proxy would make the dial decision for us.
func (g *Guard) Transport() *http.Transport {
	return &http.Transport{
		Proxy:                  nil,
		DialContext:            g.DialContext,
		ForceAttemptHTTP2:      true,
		MaxIdleConns:           2048,
		MaxIdleConnsPerHost:    1024, // a thousand parallel calls of one API must not redial each time
		IdleConnTimeout:        90 * time.Second,
		TLSHandshakeTimeout:    10 * time.Second,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 256 << 10,
	}
}

// Client makes calls through transport. Answers longer than maxBody bytes, counted after
// decompression, end in a [*TooLargeError] error; redirects are followed at most five times, each
// judged like the first call, and leave credentials behind when they leave the origin.
func (g *Guard) Client(transport http.RoundTripper, maxBody int64) *http.Client {
	return &http.Client{
		Transport:     capped{next: transport, limit: maxBody},
		CheckRedirect: checkRedirect,
	}
}

// keptHeaders may follow a redirect to another origin. Everything else might be a credential:
// a custom header of a source looks like any other.
var keptHeaders = map[string]bool{
	"Accept": true, "Accept-Encoding": true, "Accept-Language": true, "Content-Type": true,
	"Content-Encoding": true, "User-Agent": true, "Traceparent": true,
}

func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("stopped after %d redirects", maxRedirects)
	}
	if req.URL.Scheme != "http" && req.URL.Scheme != "https" {
		return &RefusedError{Host: req.URL.Host, Reason: "a redirect may not lead to the scheme " + req.URL.Scheme}
	}
	origin := via[0].URL
	left := !sameOrigin(origin, req.URL)
	for _, hop := range via[1:] {
		// Once a foreign host has chosen the way, the way back is its choice too.
		left = left || !sameOrigin(origin, hop.URL)
	}
	if !left {
		return nil
	}
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		return &RefusedError{Host: req.URL.Host, Reason: "a redirect may not carry a request body to another origin"}
	}
	for name := range req.Header {
		if !keptHeaders[name] {
			req.Header.Del(name)
		}
	}
	return nil
}

func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && portOf(a) == portOf(b)
}

func portOf(u *url.URL) string {
	if port := u.Port(); port != "" {
		return port
	}
	if u.Scheme == "https" {
		return "443"
	}
	return "80"
}

// TooLargeError is the error of an answer over the size cap.
type TooLargeError struct{ Limit int64 }

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("the answer is larger than %d bytes", e.Limit)
}

// capped bounds every body. It sits above the transport, which has already undone gzip, so a
// small compressed answer cannot grow past the cap either.
type capped struct {
	next  http.RoundTripper
	limit int64
}

func (c capped) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := c.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.ContentLength > c.limit && req.Method != http.MethodHead {
		if err := resp.Body.Close(); err != nil {
			return nil, err
		}
		return nil, &TooLargeError{Limit: c.limit}
	}
	resp.Body = &cappedBody{body: resp.Body, left: c.limit, limit: c.limit}
	return resp, nil
}

type cappedBody struct {
	body  io.ReadCloser
	left  int64
	limit int64
}

func (b *cappedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, &TooLargeError{Limit: b.limit}
	}
	// One byte more than is left tells an answer of exactly the cap from a longer one.
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.body.Read(p)
	b.left -= int64(n)
	if b.left < 0 {
		return n - 1, &TooLargeError{Limit: b.limit}
	}
	return n, err
}

func (b *cappedBody) Close() error { return b.body.Close() }

// Stage names the step at which an outside call broke: egress, name, tcp, tls, timeout or "" when
// the error is none of the network's.
func Stage(err error) string {
	var refused *RefusedError
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &refused):
		return "egress"
	case errors.As(err, &dns):
		return "name"
	case isTLS(err):
		return "tls"
	case errors.As(err, &op) && op.Op == "dial":
		return "tcp"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.As(err, &op), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "tcp"
	default:
		return ""
	}
}
