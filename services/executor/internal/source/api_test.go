package source

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/workflow"
)

func TestCallMethodsQueryHeadersAndBody(t *testing.T) {
	b := newBench(t, nil)
	base := startHTTPBin(t)
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
		req := HTTPRequest{
			Method: method, Endpoint: "/" + strings.ToLower(method),
			Query:   map[string]any{"q": "{who} & co", "n": json.Number("3"), "list": "{items}", "none": nil},
			Headers: map[string]string{"X-Who": "hello {who}"},
			Values:  values("who", "Ann", "items", []any{"a", json.Number("1")}, "count", json.Number("7")),
		}
		if method != "GET" {
			req.Body = map[string]any{"name": "{who}!", "n": "{count}", "same": "{items}", "text": "n={count}", "unknown": "{nobody}"}
		}
		resp, err := b.Call(t.Context(), caller(), apiSource(base), req)
		require.NoError(t, err, method)
		require.Equal(t, 200, resp.StatusCode)
		require.True(t, resp.Success)
		require.Equal(t, []any{"Ann & co"}, at(t, resp.Data, "args", "q"))
		require.Equal(t, []any{"3"}, at(t, resp.Data, "args", "n"))
		require.Equal(t, []any{"a", "1"}, at(t, resp.Data, "args", "list"))
		require.NotContains(t, at(t, resp.Data, "args"), "none")
		require.Equal(t, "hello Ann", at(t, resp.Data, "headers", "X-Who", 0))
		require.Equal(t, "exec_1/step/0", at(t, resp.Data, "headers", "Idempotency-Key", 0))
		require.Equal(t, "application/json; charset=utf-8", resp.Headers["content-type"])
		if method != "GET" {
			require.Equal(t, "application/json", at(t, resp.Data, "headers", "Content-Type", 0))
			require.Equal(t, "Ann!", at(t, resp.Data, "json", "name"))
			require.Equal(t, json.Number("7"), at(t, resp.Data, "json", "n"), "a lone placeholder keeps its type")
			require.Equal(t, []any{"a", json.Number("1")}, at(t, resp.Data, "json", "same"))
			require.Equal(t, "n=7", at(t, resp.Data, "json", "text"))
			require.Equal(t, "{nobody}", at(t, resp.Data, "json", "unknown"))
		}
	}
}

func TestValuesAreEscapedForWhereTheyStand(t *testing.T) {
	b := newBench(t, nil)
	seen := make(chan *http.Request, 1)
	base := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r = r.Clone(context.Background())
		r.Body = io.NopCloser(bytes.NewReader(body))
		seen <- r
		writeJSON(w, 200, `{}`)
	})
	nasty := "a/b?c=1#d e\"\\\n\u2028é%2F&x=y"
	vals := values("v", nasty, "n", json.Number("5"), "o", map[string]any{"k": `"`})
	call := func(req HTTPRequest) *http.Request {
		req.Values = vals
		_, err := b.Call(t.Context(), caller(), apiSource(base+"/v1?fixed=1"), req)
		require.NoError(t, err)
		return <-seen
	}

	r := call(HTTPRequest{Endpoint: "items/{v}/x?q={v}&r=1", Query: map[string]any{"z": "{v}"}})
	require.Equal(t, "/v1/items/"+nasty+"/x", r.URL.Path)
	require.Equal(t, 4, strings.Count(r.URL.EscapedPath(), "/"), "the value added no slash: "+r.URL.EscapedPath())
	require.Equal(t, map[string][]string{"fixed": {"1"}, "q": {nasty}, "r": {"1"}, "z": {nasty}}, map[string][]string(r.URL.Query()))

	text := `{"q": "say {v}!", "n": {n}, "o": {o}, "inner": "{o}", "plain": { "x": [1, {n}] } }`
	r = call(HTTPRequest{Method: "POST", Endpoint: "/x", BodyType: "json", Body: text})
	var got map[string]any
	require.NoError(t, json.NewDecoder(r.Body).Decode(&got))
	require.Equal(t, map[string]any{
		"q": "say " + nasty + "!", "n": 5.0, "o": map[string]any{"k": `"`}, "inner": `{"k":"\""}`,
		"plain": map[string]any{"x": []any{1.0, 5.0}},
	}, got)

	r = call(HTTPRequest{Method: "POST", Endpoint: "/x", BodyType: "form", Body: map[string]any{"a": "{v}", "b": "{n}"}})
	require.NoError(t, r.ParseForm())
	require.Equal(t, nasty, r.PostForm.Get("a"))
	require.Len(t, r.PostForm, 2)
	r = call(HTTPRequest{Method: "POST", Endpoint: "/x", Headers: map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, Body: "a={v}&b=2"})
	require.NoError(t, r.ParseForm())
	require.Equal(t, nasty, r.PostForm.Get("a"))
	require.Len(t, r.PostForm, 2)

	r = call(HTTPRequest{Method: "POST", Endpoint: "/x", Body: "just {v}"})
	raw, _ := io.ReadAll(r.Body)
	require.Equal(t, "just "+nasty, string(raw))
	require.Equal(t, "text/plain; charset=utf-8", r.Header.Get("Content-Type"))
}

func TestAValueCannotLeaveThePathOrTheHost(t *testing.T) {
	b := newBench(t, nil)
	var hits atomic.Int64
	base := startServer(t, func(http.ResponseWriter, *http.Request) { hits.Add(1) })
	for name, req := range map[string]HTTPRequest{
		"dots":              {Endpoint: "/a/{v}", Values: values("v", "..")},
		"dots in a value":   {Endpoint: "/a/{v}/b", Values: values("v", "x/../../admin")},
		"dots, backslashes": {Endpoint: "/a/{v}", Values: values("v", `..\..\x`)},
		"dots from two":     {Endpoint: "/a/{v}{v}/b", Values: values("v", ".")},
		"literal dots":      {Endpoint: "/a/../b"},
		"encoded dots":      {Endpoint: "/a/%2e%2e/b"},
		"empty value":       {Endpoint: "/a/{v}", Values: values("v", "")},
		"unknown value":     {Endpoint: "/a/{v}"},
		"other host":        {Endpoint: "http://169.254.169.254/x"},
		"other port":        {Endpoint: "http://127.0.0.1:1/x"},
		"other scheme":      {Endpoint: "https" + strings.TrimPrefix(base, "http") + "/x"},
		"credentials":       {Endpoint: strings.Replace(base, "http://", "http://user:pass@", 1)},
		"header break":      {Endpoint: "/", Headers: map[string]string{"X-A": "{v}"}, Values: values("v", "x\r\nX-Admin: 1")},
		"header zero":       {Endpoint: "/", Headers: map[string]string{"X-A": "{v}"}, Values: values("v", "x\x00")},
		"templated name":    {Endpoint: "/", Headers: map[string]string{"X-{v}": "1"}, Values: values("v", "A")},
		"host header":       {Endpoint: "/", Headers: map[string]string{"host": "evil.example"}},
		"length header":     {Endpoint: "/", Headers: map[string]string{"Content-Length": "3"}},
		"bad method":        {Method: "TRACE", Endpoint: "/"},
		"method injection":  {Method: "GET / HTTP/1.1\r\nX: y", Endpoint: "/"},
		"bad body type":     {Method: "POST", Endpoint: "/", Body: "x", BodyType: "xml"},
		"multipart":         {Method: "POST", Endpoint: "/", Body: "x", Headers: map[string]string{"Content-Type": "multipart/form-data"}},
		"form of a list":    {Method: "POST", Endpoint: "/", Body: []any{"x"}, BodyType: "form"},
		"broken JSON":       {Method: "POST", Endpoint: "/", Body: `{"a": {v}`, BodyType: "json", Values: values("v", "x")},
	} {
		_, err := b.Call(t.Context(), caller(), apiSource(base+"/base"), req)
		require.Error(t, err, name)
		requireClass(t, ClassInvalid, err)
	}
	// A value in front of everything is a piece of the path below the base URL, whatever it looks like.
	for _, v := range []string{"http://evil.example/", "//evil.example", "@evil.example", "evil.example:80"} {
		_, err := b.Call(t.Context(), caller(), apiSource(base), HTTPRequest{Endpoint: "{v}", Values: values("v", v)})
		require.NoError(t, err, v)
	}
	require.EqualValues(t, 4, hits.Load(), "nothing refused was sent")
}

func TestAnAbsoluteEndpointNeedsItsHostWrittenOut(t *testing.T) {
	b := newBench(t, nil)
	base := startHTTPBin(t)
	host := strings.TrimPrefix(base, "http://")
	inline := makeSource("api")
	for _, endpoint := range []string{base + "/anything/{v}", base + "/anything?x={v}", base + "?x={v}"} {
		_, err := b.Call(t.Context(), caller(), inline, HTTPRequest{Endpoint: endpoint, Values: values("v", "1")})
		require.NoError(t, err, endpoint)
	}
	for _, endpoint := range []string{
		"{v}", "{v}://" + host, "http://{v}/", "http://" + host + "{v}", "http://" + host + "{v}/x", "http://{v}" + host + "/", "/x", "x.example/y", "",
		"ftp://" + host, "http://", "http:///x", "http://a:b@" + host + "/",
	} {
		_, err := b.Call(t.Context(), caller(), inline, HTTPRequest{Endpoint: endpoint, Values: values("v", "127.0.0.1")})
		require.Error(t, err, endpoint)
		requireClass(t, ClassInvalid, err)
	}
}

func TestAnswers(t *testing.T) {
	store := &objects{}
	b := newBench(t, nil, func(c *Config) { c.Objects, c.LargeBytes = store, 2000 })
	base := startHTTPBin(t)
	get := func(endpoint, mode string) (HTTPResponse, error) {
		return b.Call(t.Context(), caller(), apiSource(base), HTTPRequest{Endpoint: endpoint, Response: mode})
	}
	resp, err := get("/html", "")
	require.NoError(t, err)
	require.Contains(t, resp.Data, "Herman Melville")

	resp, err = get("/html", "json")
	requireClass(t, ClassFormat, err)
	require.Equal(t, 200, resp.StatusCode)

	resp, err = get("/json", "text")
	require.NoError(t, err)
	require.Contains(t, resp.Data, `"slideshow"`)

	resp, err = get("/bytes/100?seed=1", "")
	require.NoError(t, err)
	small, ok := resp.Data.(Binary)
	require.True(t, ok)
	require.Equal(t, "base64", small.Type)
	require.Equal(t, "application/octet-stream", small.MIMEType)
	raw, err := base64.StdEncoding.DecodeString(small.Data)
	require.NoError(t, err)
	require.Len(t, raw, 100)

	resp, err = get("/bytes/3000?seed=1", "auto")
	require.NoError(t, err)
	large := resp.Data.(Binary)
	require.Equal(t, "object", large.Type)
	require.Empty(t, large.Data)
	require.Equal(t, 3000, large.Size)
	require.Len(t, store.kept[large.Ref], 3000)

	resp, err = get("/image/png", "")
	require.NoError(t, err)
	require.Equal(t, "image/png", resp.Data.(Binary).MIMEType)

	for _, zipped := range []string{"/gzip", "/deflate"} {
		resp, err = get(zipped, "")
		require.NoError(t, err)
		if zipped == "/gzip" {
			require.Equal(t, true, at(t, resp.Data, "gzipped"))
		}
	}

	resp, err = get("/status/204", "")
	require.NoError(t, err)
	require.Equal(t, 204, resp.StatusCode)
	require.True(t, resp.Success)

	resp, err = get("/redirect/3", "")
	require.NoError(t, err)
	require.Equal(t, 200, resp.StatusCode)
	_, err = get("/redirect/9", "")
	require.ErrorContains(t, err, "redirects")

	_, err = get("/json", "yaml")
	requireClass(t, ClassInvalid, err)

	resp, err = get("/stream/3", "text")
	require.NoError(t, err)
	require.Len(t, strings.Split(strings.TrimSpace(resp.Data.(string)), "\n"), 3)
}

func TestStatusesAreTypedErrors(t *testing.T) {
	b := newBench(t, nil)
	base := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		var status int
		_, _ = fmt.Sscanf(r.URL.Path, "/%d", &status)
		w.Header().Set("Retry-After", "7")
		writeJSON(w, status, `{"error":"`+strings.Repeat("why ", 500)+`"}`)
	})
	for status, class := range map[int]Class{
		400: Class4xx, 401: ClassAuth, 403: ClassAuth, 404: Class4xx, 408: ClassTimeout, 409: Class4xx, 422: Class4xx,
		429: Class429, 500: Class5xx, 502: Class5xx, 503: Class5xx, 504: ClassTimeout,
	} {
		src := apiSource(base)
		src.ID = "the_source"
		src.Config["base_url"] = fmt.Sprintf("%s/%d", base, status) // a breaker of its own
		resp, err := b.Call(t.Context(), caller(), src, HTTPRequest{})
		e := classified(t, class, err)
		require.Equal(t, status, e.Status)
		require.Equal(t, 7*time.Second, e.RetryAfter)
		require.LessOrEqual(t, len(e.Excerpt), maxExcerpt+3)
		require.Contains(t, e.Excerpt, "why")
		require.Equal(t, status, resp.StatusCode)
		require.False(t, resp.Success)
		require.Contains(t, at(t, resp.Data, "error"), "why", "the node may want to read what the API said")
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "0": 0, "-3": 0, "1.5": 1500 * time.Millisecond, "x": 0, "99999999999": maxRetryAfter,
		"Sun, 01 Jun 2025 12:00:30 GMT": 30 * time.Second, "Sun, 01 Jun 2025 11:00:00 GMT": 0, "Sun, 01 Jun 2055 11:00:00 GMT": maxRetryAfter,
	} {
		require.Equal(t, want, retryAfter(http.Header{"Retry-After": {text}}, now), text)
	}
	require.Equal(t, 250*time.Millisecond, retryAfter(http.Header{"Retry-After-Ms": {"250"}, "Retry-After": {"9"}}, now))
}

func TestSizeCapHoldsAfterDecompression(t *testing.T) {
	b := newBench(t, nil, func(c *Config) { c.MaxResponseBytes = 1000 })
	base := startServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		zip := gzip.NewWriter(w)
		_, _ = zip.Write(bytes.Repeat([]byte("0"), 100_000))
		_ = zip.Close()
	})
	_, err := b.Call(t.Context(), caller(), apiSource(base), HTTPRequest{})
	requireClass(t, ClassTooLarge, err)
	require.ErrorContains(t, err, "1000 bytes")
}

func TestTimeouts(t *testing.T) {
	b := newBench(t, nil)
	base := startServer(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	_, err := b.Call(t.Context(), caller(), apiSource(base), HTTPRequest{Timeout: 20 * time.Millisecond})
	e := classified(t, ClassTimeout, err)
	require.True(t, e.Retryable())
	_, err = b.Call(t.Context(), caller(), apiSource(base, "timeout", json.Number("0.02")), HTTPRequest{Timeout: time.Hour})
	requireClass(t, ClassTimeout, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = b.Call(ctx, caller(), apiSource(base), HTTPRequest{})
	requireClass(t, ClassCanceled, err)
	require.ErrorIs(t, err, context.Canceled)
}

func TestEgressHoldsForEveryCall(t *testing.T) {
	b := newBench(t, nil, func(c *Config) { c.EgressAllow = "" })
	base := startHTTPBin(t)
	_, err := b.Call(t.Context(), caller(), apiSource(base), HTTPRequest{Endpoint: "/get"})
	e := classified(t, ClassEgress, err)
	require.False(t, e.Retryable())
	require.ErrorContains(t, err, "loopback")

	open := newBench(t, nil)
	_, err = open.Call(t.Context(), caller(), apiSource(base), HTTPRequest{
		Endpoint: "/redirect-to", Query: map[string]any{"url": "http://169.254.169.254/latest/meta-data/iam"},
	})
	requireClass(t, ClassEgress, err)
}

func TestNetworkFailuresSayWhatFailed(t *testing.T) {
	b := newBench(t, nil)
	server := startServer(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	})
	_, err := b.Call(t.Context(), caller(), apiSource(server), HTTPRequest{Method: "POST"})
	requireClass(t, ClassNetwork, err)
	_, err = b.Call(t.Context(), caller(), apiSource("http://no-such-host.invalid"), HTTPRequest{})
	e := classified(t, ClassNetwork, err)
	require.Equal(t, "name", e.Code)
	_, err = b.Call(t.Context(), caller(), apiSource("http://127.0.0.1:1"), HTTPRequest{})
	e = classified(t, ClassNetwork, err)
	require.Equal(t, "tcp", e.Code)
	_, err = b.Call(t.Context(), caller(), apiSource(strings.Replace(server, "http", "https", 1)), HTTPRequest{})
	require.Error(t, err)
}

func TestRetryPolicy(t *testing.T) {
	retries := func(n string) workflow.Source { return apiSource("http://x", "retries", json.Number(n)) }
	require.Equal(t, workflow.Retry{}, RetryPolicy(apiSource("http://x"), "GET", true), "the node's own policy stays")
	require.Equal(t, 1, RetryPolicy(retries("0"), "GET", true).MaxAttempts)
	require.Equal(t, 3, RetryPolicy(retries("2"), "GET", true).MaxAttempts)
	require.Equal(t, 4, RetryPolicy(retries("50"), "GET", true).MaxAttempts, "three at most")
	require.Equal(t, 3, RetryPolicy(retries("2"), "POST", true).MaxAttempts, "the key makes it safe")
	require.Equal(t, 1, RetryPolicy(retries("2"), "POST", false).MaxAttempts)
	require.Equal(t, 1, RetryPolicy(apiSource("http://x"), "PATCH", false).MaxAttempts)
	require.Equal(t, 3, RetryPolicy(retries("2"), "DELETE", false).MaxAttempts)
	require.Equal(t, 3, RetryPolicy(makeSource("llm", "max_retries", 2), "", true).MaxAttempts)
	p := RetryPolicy(retries("3"), "", true)
	require.Greater(t, p.Backoff, 1.0)
	require.Positive(t, p.InitialInterval)
}

// What a tenant reads of a failed connection tells nothing of the network that this platform stands in.
func TestErrorsOfTheNetworkNameTheOtherEndAlone(t *testing.T) {
	own := make(chan string, 8)
	base := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		require.NoError(t, err)
		own <- conn.RemoteAddr().String()
		tcp, ok := conn.(*net.TCPConn)
		require.True(t, ok)
		require.NoError(t, tcp.SetLinger(0)) // a reset, not an end
		require.NoError(t, conn.Close())
	})
	b := newBench(t, nil)
	_, err := b.Call(t.Context(), caller(), apiSource(base), HTTPRequest{Method: "POST", Body: "x"})
	requireClass(t, ClassNetwork, err)
	require.NotContains(t, err.Error(), <-own)

	asked := &net.DNSError{Err: "server misbehaving", Name: "crm.example.com", Server: "10.0.0.53:53"}
	found := b.newCall(caller(), apiSource(base)).transport(t.Context(), &net.OpError{Op: "dial", Net: "tcp", Err: asked})
	require.Equal(t, "the host name does not resolve: no answer about crm.example.com", found.Message)
}
