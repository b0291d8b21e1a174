package contract

import (
	"bytes"
	"io"
	"net/http"
	"strings"
)

// Transport passes requests on and reports every answer that the document does not describe.
type Transport struct {
	Base     http.RoundTripper
	Contract func(base string) (*Contract, error) // of the server at a base URL
	Report   func(error)
}

var _ http.RoundTripper = Transport{}

// RoundTrip is http.RoundTripper.
func (t Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.Base.RoundTrip(req)
	if err != nil || !Described(req) {
		return resp, err
	}
	a := Answer{Method: req.Method, Path: req.URL.EscapedPath(), Status: resp.StatusCode, Media: resp.Header.Get("Content-Type")}
	if !strings.HasPrefix(a.Media, "text/event-stream") {
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close() // it has been read
		if err != nil {
			return nil, err
		}
		resp.Body = io.NopCloser(bytes.NewReader(body))
		a.Body = body
	}
	c, err := t.Contract(req.URL.Scheme + "://" + req.URL.Host)
	if err == nil {
		err = c.Check(a)
	}
	if err != nil {
		t.Report(err)
	}
	return resp, nil
}

// Described tells whether a request is for the API, not for its documentation, which is no part of itself.
func Described(req *http.Request) bool {
	if req.Method == http.MethodOptions || req.Method == http.MethodHead {
		return false
	}
	for _, own := range []string{"/openapi.json", "/docs", "/redoc", "/schemas/"} {
		if strings.HasPrefix(req.URL.Path, own) {
			return false
		}
	}
	return true
}

// Fetch reads the document of the server at a base URL.
func Fetch(base string, transport http.RoundTripper) ([]byte, error) {
	resp, err := (&http.Client{Transport: transport}).Get(base + "/openapi.json") //nolint:noctx // a test's own server
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	return io.ReadAll(resp.Body)
}
