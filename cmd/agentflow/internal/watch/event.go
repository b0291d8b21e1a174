package watch

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Event is one event of an execution, with what people want to see of it.
type Event struct {
	Sequence uint64    `json:"sequence"`
	Index    int       `json:"index"`
	Type     string    `json:"type"`
	At       time.Time `json:"at"`
	Data     data      `json:"data"`
}

// data has the fields of all events; each event fills some.
type data struct {
	WorkflowID      string          `json:"workflow_id"`
	WorkflowVersion int             `json:"workflow_version"`
	WorkflowName    string          `json:"workflow_name"`
	RerunOf         string          `json:"rerun_of"`
	Delivery        int             `json:"delivery"`
	Node            string          `json:"node"`
	Iteration       int             `json:"iteration"`
	Attempt         int             `json:"attempt"`
	Intent          *string         `json:"intent"`
	Tokens          int64           `json:"tokens"`
	Cost            json.RawMessage `json:"cost"`
	DurationMS      int64           `json:"duration_ms"`
	NextTryAt       string          `json:"next_try_at"`
	Handled         bool            `json:"handled"`
	Queue           string          `json:"queue"`
	Metric          string          `json:"limiting_metric"`
	RetryAt         string          `json:"retry_at"`
	Reason          string          `json:"reason"`
	Scope           string          `json:"scope"`
	Error           *struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Node    string `json:"node"`
	} `json:"error"`
	Totals struct {
		Tokens     int64           `json:"tokens_used"`
		Cost       json.RawMessage `json:"cost"`
		Nodes      int             `json:"nodes_run"`
		DurationMS int64           `json:"duration_ms"`
	} `json:"totals"`
}

// Read decodes an event as the API sends it.
func Read(raw json.RawMessage) (Event, error) {
	var e Event
	if err := json.Unmarshal(raw, &e); err != nil {
		return e, fmt.Errorf("read event: %w", err)
	}
	return e, nil
}

// name is a type without its version, which people do not care about.
func name(eventType string) string {
	bare, _, _ := strings.Cut(eventType, ".")
	return bare
}

func terminal(name string) bool {
	switch name {
	case "completed", "failed", "timed_out", "cancelled":
		return true
	}
	return false
}

// Name is the type without its version.
func (e Event) Name() string { return name(e.Type) }

// Node is the node that the event is about; "" when it is about the execution.
func (e Event) Node() string { return e.Data.Node }

// Workflow is the stored workflow that the execution runs, and its version; "" when it came along with the request.
func (e Event) Workflow() (id string, version int) { return e.Data.WorkflowID, e.Data.WorkflowVersion }

// About is what else there is to say, on one line.
func (e Event) About() string {
	d := e.Data
	var parts []string
	add := func(when bool, format string, args ...any) {
		if when {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	switch e.Name() {
	case "requested":
		add(d.WorkflowName != "", "%s", d.WorkflowName)
		add(d.RerunOf != "", "again %s", d.RerunOf)
	case "started":
		add(d.Delivery > 1, "executor no. %d", d.Delivery)
	case "node_completed":
		parts = append(parts, duration(d.DurationMS))
		add(d.Tokens > 0, "%d tokens", d.Tokens)
		add(d.Attempt > 1, "attempt %d", d.Attempt)
		add(d.Intent != nil, "intent %s", value(d.Intent))
	case "node_failed":
		parts = append(parts, duration(d.DurationMS), "attempt "+strconv.Itoa(d.Attempt))
		add(d.NextTryAt != "", "next try %s", d.NextTryAt)
	case "node_rate_limited":
		parts = append(parts, "waits for "+d.Metric+" of "+d.Queue)
	case "completed", "failed", "timed_out", "cancelled":
		parts = append(parts, duration(d.Totals.DurationMS))
		add(d.Totals.Tokens > 0, "%d tokens", d.Totals.Tokens)
		add(d.Scope == "node", "deadline of a node")
		add(d.Scope == "execution", "deadline of the execution")
	}
	add(d.Reason != "", "%s", d.Reason)
	add(d.Error != nil, "%s", e.failure())
	return Harmless(strings.Join(parts, ", "))
}

func (e Event) failure() string {
	if e.Data.Error == nil {
		return ""
	}
	return e.Data.Error.Code + ": " + e.Data.Error.Message
}

func value(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}

func duration(ms int64) string {
	d := time.Duration(ms) * time.Millisecond
	if d >= 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.String()
}
