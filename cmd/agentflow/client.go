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
	url string
	key string
}

// flags lets the command line, or the variables named, say which platform and which key.
func (a *client) flags(c *cobra.Command, p *process, defaultURL string, keys ...string) {
	c.Flags().StringVar(&a.url, "url", defaultURL, "address of the platform (AGENTFLOW_URL)")
	// Not as the default of the flag: --help would print it.
	c.Flags().StringVar(&a.key, "key", "", "API key ("+strings.Join(keys, ", else ")+")")
	c.PreRunE = func(*cobra.Command, []string) error {
		a.key = cmp.Or(a.key, p.firstEnv(keys...))
		if a.url == "" {
			return nil
		}
		u, err := url.Parse(a.url)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return &usageError{c.CommandPath(), fmt.Errorf("--url wants an address such as http://127.0.0.1:8000, not %q", a.url)}
		}
		a.url = strings.TrimRight(a.url, "/")
		return nil
	}
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
	reader := io.Reader(http.NoBody)
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
		reader = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.url+path, reader)
	if err != nil {
		return fmt.Errorf("ask %s: %w", a.url, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if a.key != "" {
		req.Header.Set("X-API-Key", a.key)
	}
	// No deadline of our own: the platform has one for every execution, and Ctrl-C works.
	client := http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		var refused *url.Error
		if errors.As(err, &refused) {
			err = refused.Err
		}
		return fmt.Errorf("the platform at %s does not answer: %w", a.url, err)
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("read the answer of %s: %w", a.url, err)
	case len(text) > maxAnswer:
		return fmt.Errorf("the answer of %s is larger than %d MiB", a.url, maxAnswer>>20)
	case resp.StatusCode >= http.StatusMultipleChoices:
		return refusal(a.url, resp.Status, text)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("the answer of %s is not one of AgentFlow: %w", a.url, err)
	}
	return nil
}

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
