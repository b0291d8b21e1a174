package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
)

// client talks to the REST API of a platform.
type client struct {
	url    string
	key    string
	tenant string // to act for, with the admin key
}

// flags lets the command line, or the variables named, say which platform and which key.
func (a *client) flags(c *cobra.Command, p *process, defaultURL string, keys ...string) {
	a.addressFlags(c, defaultURL, strings.Join(keys, ", else "))
	c.PreRunE = func(*cobra.Command, []string) error {
		a.key = cmp.Or(a.key, p.firstEnv(keys...))
		return a.checkURL(c.CommandPath())
	}
}

func (a *client) addressFlags(c *cobra.Command, defaultURL, keys string) {
	c.Flags().StringVar(&a.url, "url", defaultURL, "address of the platform (AGENTFLOW_URL)")
	// Not as the default of the flag: --help would print it.
	c.Flags().StringVar(&a.key, "key", "", "API key ("+keys+")")
}

func (a *client) checkURL(command string) error {
	if a.url == "" {
		return nil
	}
	u, err := url.Parse(a.url)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return &usageError{command, fmt.Errorf("--url wants an address such as http://127.0.0.1:8000, not %q", a.url)}
	}
	a.url = strings.TrimRight(a.url, "/")
	return nil
}

// apiError is a problem document (RFC 9457) as the platform answers it.
type apiError struct {
	Status      int    `json:"status"`
	Detail      string `json:"detail"`
	Code        string `json:"code"`
	ExecutionID string `json:"execution_id"`
	RequestID   string `json:"request_id"`
	Errors      []struct {
		Location string `json:"location"`
		Message  string `json:"message"`
		Code     string `json:"code"`
		NodeID   string `json:"node_id"`
	} `json:"errors"`
}

// Error is one line for the problem and one for each thing that is wrong.
func (e *apiError) Error() string {
	var b strings.Builder
	b.WriteString(e.Detail)
	var about []string
	for _, field := range []struct{ name, value string }{{"code", e.Code}, {"execution", e.ExecutionID}, {"request", e.RequestID}} {
		if field.value != "" {
			about = append(about, field.name+" "+field.value)
		}
	}
	if len(about) > 0 {
		b.WriteString(" (" + strings.Join(about, ", ") + ")")
	}
	for _, one := range e.Errors {
		b.WriteString("\n  ")
		if one.Code != "" {
			b.WriteString(one.Code + " ")
		}
		if one.NodeID != "" {
			b.WriteString("node " + one.NodeID + ", ")
		}
		if one.Location != "" {
			b.WriteString(one.Location + ": ")
		}
		b.WriteString(one.Message)
	}
	return b.String()
}

// maxAnswer bounds what is read of an answer: a final state may be large, but not without end.
const maxAnswer = 256 << 20

// call makes a request with a JSON body, if there is one, and reads the answer into into.
func (a *client) call(ctx context.Context, method, path string, body, into any) error {
	return a.callWith(ctx, method, path, nil, body, into)
}

// callWith is call with further headers.
func (a *client) callWith(ctx context.Context, method, path string, headers http.Header, body, into any) error {
	resp, err := a.send(ctx, method, path, headers, body)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	if resp.StatusCode >= http.StatusMultipleChoices {
		return problemOf(a.url, resp)
	}
	text, err := readAnswer(a.url, resp)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("the answer of %s is not one of AgentFlow: %w", a.url, err)
	}
	return nil
}

func readAnswer(address string, resp *http.Response) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the answer of %s: %w", address, err)
	case len(text) > maxAnswer:
		return nil, fmt.Errorf("the answer of %s is larger than %d MiB", address, maxAnswer>>20)
	}
	return text, nil
}

// problemOf is the refusal that an answer holds.
func problemOf(address string, resp *http.Response) error {
	text, err := readAnswer(address, resp)
	if err != nil {
		return err
	}
	return refusal(address, resp.Status, text)
}

// send makes a request. Whoever calls it closes the body of the answer.
func (a *client) send(ctx context.Context, method, path string, headers http.Header, body any) (*http.Response, error) {
	reader := io.Reader(http.NoBody)
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode the request: %w", err)
		}
		reader = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.url+path, reader)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", a.url, err)
	}
	for name, values := range headers {
		req.Header[name] = values
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if a.key != "" {
		req.Header.Set("X-API-Key", a.key)
	}
	if a.tenant != "" {
		req.Header.Set("X-Tenant-ID", a.tenant)
	}
	// No deadline of our own: the platform has one for every execution, and Ctrl-C works.
	client := http.Client{
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true},
		// The API never sends elsewhere; whoever does must not be told the key.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		var refused *url.Error
		if errors.As(err, &refused) {
			err = refused.Err
		}
		return nil, &unreachableError{a.url, err}
	}
	return resp, nil
}

// unreachableError is a platform that gives no answer.
type unreachableError struct {
	url string
	err error
}

func (e *unreachableError) Error() string {
	return fmt.Sprintf("the platform at %s does not answer: %v", e.url, e.err)
}
func (e *unreachableError) Unwrap() error { return e.err }

// refusal reads a problem document; whatever else answers there is quoted.
func refusal(address, status string, text []byte) error {
	problem := &apiError{}
	if err := json.Unmarshal(text, problem); err == nil && problem.Detail != "" {
		return problem
	}
	const enough = 500
	if len(text) > enough {
		text = text[:enough]
	}
	return fmt.Errorf("%s answers %s: %s", address, status, bytes.TrimSpace(text))
}
