package source

import (
	"encoding/json"
	"time"

	"github.com/agentflow/agentflow/pkg/workflow"
)

// LLMRequest is one question to a language model. A nil or zero setting takes the source's, and
// then the contract's default (temperature 0.7, max_tokens 4096).
type LLMRequest struct {
	System      string
	Prompt      string
	Temperature *float64
	TopP        *float64
	TopK        *int
	MaxTokens   int
	Stop        []string
	Format      Format
	Timeout     time.Duration // 0: the source's timeout, else the context's deadline alone
}

// Format asks for a shape of answer. The zero value is plain text.
type Format struct {
	JSON   bool
	Name   string // name of the schema, for providers that want one
	Schema any    // a JSON Schema the answer must meet; nil: any JSON value
}

// LLMResponse is what the model said and what it took.
type LLMResponse struct {
	Text         string
	JSON         any // the decoded answer when JSON was asked for; numbers are json.Number
	Provider     string
	Model        string // the model that answered, as the provider names it
	FinishReason string // stop, length, tool_calls, content_filter, other
	Usage        Usage
	Cost         Cost
	Repaired     bool // the first answer did not meet the format and a second one was asked for
}

// Usage counts tokens.
type Usage struct {
	InputTokens  int64
	OutputTokens int64
	Estimated    bool // the provider reported none: counted as characters / 4
}

// Total is all tokens together.
func (u Usage) Total() int64 { return u.InputTokens + u.OutputTokens }

// Cost is an exact amount of US dollars.
type Cost struct {
	Amount json.Number // "0" when Known is false
	Known  bool        // false: neither the source nor the price table has a price for the model
	Basis  string      // "source", "table <date>" or ""
}

// ImageRequest asks for one picture.
type ImageRequest struct {
	Prompt  string
	Size    string
	Quality string
	Style   string
	Timeout time.Duration
}

// Image is one picture, in the shape the image node writes.
type Image struct {
	Type          string `json:"type"` // url, base64 or object
	URL           string `json:"url,omitempty"`
	Data          string `json:"data,omitempty"` // base64
	Ref           string `json:"ref,omitempty"`  // object store reference, when the data is large
	MIMEType      string `json:"mime_type,omitempty"`
	Prompt        string `json:"prompt"`
	RevisedPrompt string `json:"revised_prompt,omitempty"`
	Model         string `json:"model"`
	Size          string `json:"size"`

	Provider string `json:"-"`
	Usage    Usage  `json:"-"`
	Cost     Cost   `json:"-"`
}

// QueryRequest is one read-only statement. Exactly one of Query and Template is set.
type QueryRequest struct {
	Query    string // as it stands; only names in Params are placeholders
	Template string // {name} and {a.b} become bound parameters, from Params first, then Values
	Params   any    // array ($1.. or ?), or object (:name and {name}); strings in it are templates
	Values   workflow.Values
	Limit    int           // rows to return, 0: 100
	Timeout  time.Duration // 0: the source's timeout, else 30 s
}

// HTTPRequest is one call of an API. Endpoint, query, header values and body are templates that
// are filled from Values, each escaped for the place where it stands.
type HTTPRequest struct {
	Method   string // "" is GET
	Endpoint string // below the source's base_url, or absolute when the source has none
	Query    map[string]any
	Headers  map[string]string
	Body     any    // JSON value with templates in its strings; nil: no body
	BodyType string // "", json, form or text; "" decides by Content-Type, else by the value
	Values   workflow.Values
	Response string // "", auto, json, text or binary
	Timeout  time.Duration
}

// HTTPResponse is what the API answered. Call returns it beside a 4xx or 5xx *Error as well.
type HTTPResponse struct {
	StatusCode int               `json:"status_code"`
	Data       any               `json:"data"` // decoded JSON (json.Number), string, or Binary
	Headers    map[string]string `json:"headers"`
	Success    bool              `json:"success"`
}

// Binary is a binary answer: inline as base64, or a reference when it is large.
type Binary struct {
	Type     string `json:"type"` // base64 or object
	Data     string `json:"data,omitempty"`
	Ref      string `json:"ref,omitempty"`
	MIMEType string `json:"mime_type"`
	Size     int    `json:"size"`
}

// TestResult tells whether a source can be reached and, when not, which step failed.
type TestResult struct {
	Connected bool          `json:"connected"`
	Stage     string        `json:"stage"` // the step that failed: config, secret, egress, name, tcp, tls, auth, permission, request; ok
	Message   string        `json:"message"`
	Latency   time.Duration `json:"latency_ns"`
}
