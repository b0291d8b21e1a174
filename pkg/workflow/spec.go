package workflow

import "encoding/json"

// Spec is a workflow as its author wrote it. Raw keeps the document byte for byte: keys that
// this package does not know are stored and returned untouched through it.
type Spec struct {
	Name           string
	Description    string
	Version        string
	StartNode      string
	Nodes          []Node
	Edges          []Edge
	Queues         []Queue
	Sources        []Source
	TimeoutSeconds float64 // 0 when the spec names none
	MaxIterations  int     // 0 when the spec names none
	Raw            json.RawMessage
}

// Node is one step of the graph.
type Node struct {
	ID       string
	Type     string
	Metadata map[string]any // free keys; numbers are json.Number; never nil after Parse
}

// Edge leads from one node to one or more targets.
type Edge struct {
	From      string
	To        []string
	Condition string // "", "intent" or a CEL expression
}

// Queue limits what may pass along one edge.
type Queue struct {
	ID        string     `json:"id"`
	From      string     `json:"from"`
	To        string     `json:"to"`
	Bandwidth *Bandwidth `json:"bandwidth,omitempty"`
	SubQueues []SubQueue `json:"sub_queues,omitempty"`
}

// Bandwidth is the limit of a queue; zero fields are unlimited.
type Bandwidth struct {
	MaxMessagesPerSecond int `json:"max_messages_per_second,omitempty"`
	MaxRequestsPerMinute int `json:"max_requests_per_minute,omitempty"`
	MaxTokensPerMinute   int `json:"max_tokens_per_minute,omitempty"`
	BurstSize            int `json:"burst_size,omitempty"`
}

// SubQueue is a share of a queue's bandwidth.
type SubQueue struct {
	ID     string  `json:"id"`
	Weight float64 `json:"weight"`
}

// Source says how to reach something outside: it names environment variables, never secrets.
type Source struct {
	ID     string         `json:"id"`
	Kind   string         `json:"kind"` // llm, image, db, api
	Config map[string]any `json:"config"`
}

// MarshalJSON returns the document as its author wrote it. A Spec that was built in code, and
// so has no Raw, is written from its fields. Note that json.Marshal compacts what it gets from
// here: where the bytes matter, as for the hash, send Raw.
func (s Spec) MarshalJSON() ([]byte, error) {
	if len(s.Raw) > 0 {
		return s.Raw, nil
	}
	type edge struct {
		From      string   `json:"from"`
		To        []string `json:"to"`
		Condition string   `json:"condition,omitempty"`
	}
	type node struct {
		ID       string         `json:"id"`
		Type     string         `json:"type"`
		Metadata map[string]any `json:"metadata,omitempty"`
	}
	doc := struct {
		Name           string   `json:"name,omitempty"`
		Description    string   `json:"description,omitempty"`
		Version        string   `json:"version,omitempty"`
		StartNode      string   `json:"start_node"`
		Nodes          []node   `json:"nodes"`
		Edges          []edge   `json:"edges"`
		Queues         []Queue  `json:"queues,omitempty"`
		Sources        []Source `json:"sources,omitempty"`
		TimeoutSeconds float64  `json:"timeout_seconds,omitempty"`
		MaxIterations  int      `json:"max_iterations,omitempty"`
	}{
		Name: s.Name, Description: s.Description, Version: s.Version, StartNode: s.StartNode,
		Nodes: make([]node, len(s.Nodes)), Edges: make([]edge, len(s.Edges)), Queues: s.Queues, Sources: s.Sources,
		TimeoutSeconds: s.TimeoutSeconds, MaxIterations: s.MaxIterations,
	}
	for i, n := range s.Nodes {
		doc.Nodes[i] = node(n)
	}
	for i, e := range s.Edges {
		doc.Edges[i] = edge(e)
	}
	return json.Marshal(doc)
}

// UnmarshalJSON is Parse.
func (s *Spec) UnmarshalJSON(doc []byte) error {
	parsed, err := Parse(doc)
	if err != nil {
		return err
	}
	*s = *parsed
	return nil
}

// Source returns the spec's own source of that id.
func (s *Spec) Source(id string) (Source, bool) {
	for _, src := range s.Sources {
		if src.ID == id {
			return src, true
		}
	}
	return Source{}, false
}
