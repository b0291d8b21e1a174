package source

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// responseHead is the status and the headers of a response, for an SDK that keeps them to itself
// when a call fails: Retry-After is worth having then.
type responseHead struct {
	status int
	header http.Header
}

type responseHeadKey struct{}

// watch has the head filled in by the transport for requests under the context it returns.
func (h *responseHead) watch(ctx context.Context) context.Context {
	return context.WithValue(ctx, responseHeadKey{}, h)
}

// headTransport fills the head that a request's context carries.
type headTransport struct{ next http.RoundTripper }

func (t headTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(req)
	if head, ok := req.Context().Value(responseHeadKey{}).(*responseHead); ok && err == nil {
		head.status, head.header = resp.StatusCode, resp.Header
	}
	return resp, err
}

// retryDelay reads google.rpc.RetryInfo, which Google sends instead of Retry-After.
func retryDelay(details []map[string]any) time.Duration {
	for _, detail := range details {
		kind, _ := detail["@type"].(string)
		text, _ := detail["retryDelay"].(string)
		if !strings.HasSuffix(kind, "google.rpc.RetryInfo") {
			continue
		}
		if d, err := time.ParseDuration(text); err == nil && d > 0 {
			return min(d, maxRetryAfter)
		}
	}
	return 0
}
