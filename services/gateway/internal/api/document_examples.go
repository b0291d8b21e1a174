package api

import (
	"embed"
	"encoding/json"
	"fmt"
	"strings"
)

// The examples of the document. Requests are written by hand and replayed against a running
// platform by a test; answers are what the platform said then (-update writes them).
//
//go:embed examples/requests.json examples/answers.json
var exampleFiles embed.FS

type examples struct {
	requests map[string]object // by operation, then name: {summary, value}
	answers  map[string]any    // by operation
}

func loadExamples() (examples, error) {
	var ex examples
	for name, into := range map[string]any{"requests": &ex.requests, "answers": &ex.answers} {
		raw, err := exampleFiles.ReadFile("examples/" + name + ".json")
		if err != nil {
			return ex, fmt.Errorf("read examples: %w", err)
		}
		if err := json.Unmarshal(raw, into); err != nil {
			return ex, fmt.Errorf("read examples of %s: %w", name, err)
		}
	}
	return ex, nil
}

// request are the examples of an operation's body: its own, or those of its twin at the root.
func (ex examples) request(id string) object {
	if own := ex.requests[id]; own != nil {
		return own
	}
	return ex.requests[strings.TrimSuffix(id, "-v1")]
}

// answer is the example of an operation's success, or that of its twin at the root.
func (ex examples) answer(id string) any {
	if own := ex.answers[id]; own != nil {
		return own
	}
	return ex.answers[strings.TrimSuffix(id, "-v1")]
}
