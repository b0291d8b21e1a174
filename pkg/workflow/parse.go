package workflow

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The limits of a workflow document.
const (
	MaxNodes       = 10_000
	MaxEdgeTargets = 50_000 // edges, each target counted
	MaxQueues      = 1_000
	MaxSources     = 1_000
	MaxIterations  = 10_000

	maxNodeID   = 100
	maxOtherID  = 200
	maxName     = 200
	defaultSpec = "1.0.0"
)

// Parse reads a workflow document. It checks the shape alone: types, required fields and that
// every reference names something. What the workflow means is for Validate. The error is a
// *ShapeError that lists everything that is wrong.
func Parse(doc []byte) (*Spec, error) {
	var e shapeErrors
	root, ok := decodeDocument(doc, &e)
	if !ok {
		return nil, e.err()
	}
	p := parser{shapeErrors: e, ids: make(map[string]bool)}
	s := p.spec(root)
	if err := p.err(); err != nil {
		return nil, err
	}
	s.Raw = slices.Clone(doc)
	return s, nil
}

func decodeDocument(doc []byte, e *shapeErrors) (map[string]any, bool) {
	if !utf8.Valid(doc) {
		e.wrong("json_invalid", "JSON decode error: the document is not valid UTF-8", map[string]any{}, invalidUTF8(doc))
		return nil, false
	}
	v, err := decodeAny(doc, maxSpecDepth)
	if syntax, ok := errors.AsType[*syntaxError](err); ok {
		e.wrong("json_invalid", "JSON decode error: "+syntax.reason, map[string]any{}, syntax.offset)
		return nil, false
	}
	if err != nil {
		e.wrong("value_error", "Value error, the document is "+err.Error(), nil)
		return nil, false
	}
	return e.model(v)
}

// invalidUTF8 returns the offset of the first byte that is not UTF-8.
func invalidUTF8(doc []byte) int {
	for i := 0; i < len(doc); {
		r, size := utf8.DecodeRune(doc[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return len(doc)
}

type parser struct {
	shapeErrors

	ids     map[string]bool
	unread  bool // there is no list of nodes to find ids in
	targets int
}

// names tells whether a text is a node's id. Where the nodes were refused as a whole every text may be one: what is wrong
// with them has been said.
func (p *parser) names(id string) bool { return p.unread || p.ids[id] }

func (p *parser) spec(root map[string]any) *Spec {
	s := &Spec{
		Name:           p.text(root, "name"),
		Description:    p.text(root, "description"),
		Version:        p.text(root, "version"),
		TimeoutSeconds: p.number(root, "timeout_seconds"),
		MaxIterations:  p.integer(root, "max_iterations", MaxIterations),
	}
	if n := utf8.RuneCountInString(s.Name); n > maxName {
		p.wrong("string_too_long", fmt.Sprintf("String should have at most %d characters", maxName), shorten(s.Name), "name")
	}
	if s.Version == "" {
		s.Version = defaultSpec
	}
	if n, ok := laxNumber(root["timeout_seconds"]); ok {
		switch t := s.TimeoutSeconds; {
		case t > maxSeconds:
			p.wrong("less_than_equal", fmt.Sprintf("Input should be less than or equal to %d", maxSeconds), n, "timeout_seconds")
		case t <= 0:
			p.wrong("greater_than", "Input should be greater than 0", n, "timeout_seconds")
		}
	}
	s.Nodes = p.nodes(root)
	s.StartNode = p.startNode(root)
	s.Edges = p.edges(root)
	s.Queues = p.queues(root)
	s.Sources = p.sources(root)
	return s
}

func (p *parser) nodes(root map[string]any) []Node {
	v, there := root["nodes"]
	given, isArray := v.([]any)
	p.unread = !isArray || len(given) > MaxNodes
	if !there {
		p.missing(root, "nodes")
		return nil
	}
	if v == nil {
		p.wrong("list_type", "Input should be a valid list", nil, "nodes")
		return nil
	}
	list := p.array(root, "nodes", MaxNodes)
	if isArray && len(given) == 0 {
		p.wrong("too_short", "List should have at least 1 item after validation, not 0", v, "nodes")
	}
	nodes := make([]Node, 0, len(list))
	for i, item := range list {
		if obj, ok := p.model(item, "nodes", i); ok {
			nodes = append(nodes, p.node(obj, i))
		}
	}
	return nodes
}

func (p *parser) node(obj map[string]any, i int) Node {
	n := Node{}
	if id, ok := p.required(obj, "id", "nodes", i); ok {
		n.ID = id
		p.ids[id] = true
		switch {
		case utf8.RuneCountInString(id) > maxNodeID:
			p.wrong("string_too_long", fmt.Sprintf("String should have at most %d characters", maxNodeID), shorten(id), "nodes", i, "id")
		case !isNodeID(id):
			p.wrong("string_pattern_mismatch", "String should match pattern '^[A-Za-z0-9_-]+$'", id, "nodes", i, "id")
		}
	}
	if v, there := obj["type"]; !there {
		p.missing(obj, "nodes", i, "type")
	} else if n.Type, _ = v.(string); !knownNodeType(n.Type) {
		msg := "Input should be " + orList(nodeTypeNames())
		p.add(Detail{Type: "literal_error", Loc: []any{"nodes", i, "type"}, Msg: msg, Input: v}, ProblemNodeTypeInvalid, n.ID, msg)
	}
	n.Metadata = p.dict(obj, "metadata", "nodes", i)
	return n
}

func knownNodeType(name string) bool {
	_, ok := registered[name]
	return ok
}

// isNodeID reports whether every character of an id is a letter, a digit, _ or -: ids travel
// in subjects, keys and URLs.
func isNodeID(id string) bool {
	for i := range len(id) {
		if !isKeyByte(id[i]) || id[i] >= 0x80 {
			return false
		}
	}
	return id != ""
}

// orList writes 'a', 'b' or 'c'.
func orList(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = "'" + n + "'"
	}
	last := len(quoted) - 1
	if last < 1 {
		return strings.Join(quoted, "")
	}
	return strings.Join(quoted[:last], ", ") + " or " + quoted[last]
}

func (p *parser) startNode(root map[string]any) string {
	v, there := root["start_node"]
	id, isText := v.(string)
	switch {
	case !there:
		p.add(Detail{Type: "missing", Loc: []any{"start_node"}, Msg: "Field required", Input: root},
			ProblemStartNodeMissing, "", "start_node is missing; name the node the workflow starts with")
	case !isText:
		p.wrong("string_type", "Input should be a valid string", v, "start_node")
	case id == "":
		p.add(Detail{Type: "string_too_short", Loc: []any{"start_node"}, Msg: "String should have at least 1 character", Input: v},
			ProblemStartNodeMissing, "", "start_node is empty; name the node the workflow starts with")
	case !p.names(id):
		p.dangling(ProblemStartNodeInvalid, "start_node", id, "start_node")
	}
	return id
}

func (p *parser) edges(root map[string]any) []Edge {
	list := p.array(root, "edges", MaxEdgeTargets)
	edges := make([]Edge, 0, len(list))
	for i, item := range list {
		obj, ok := p.model(item, "edges", i)
		if !ok {
			continue
		}
		edges = append(edges, Edge{
			From:      p.from(obj, ProblemEdgeSourceInvalid, "edges", i),
			To:        p.to(obj, i),
			Condition: p.text(obj, "condition", "edges", i),
		})
	}
	if p.targets > MaxEdgeTargets {
		p.wrong("value_error", fmt.Sprintf("Value error, at most %d edge targets are allowed, not %d", MaxEdgeTargets, p.targets), nil, "edges")
	}
	return edges
}

// from reads the node that an edge or queue starts from, under its name or its alias.
func (p *parser) from(obj map[string]any, problemType string, loc ...any) string {
	key := "from"
	if _, there := obj[key]; !there {
		if _, alias := obj["from_node"]; alias {
			key = "from_node"
		}
	}
	id, ok := p.required(obj, key, loc...)
	if ok && !p.names(id) {
		p.dangling(problemType, locText(append(loc, "from")), id, append(loc, key)...)
	}
	return id
}

func (p *parser) to(obj map[string]any, i int) []string {
	v, there := obj["to"]
	if !there {
		p.missing(obj, "edges", i, "to")
		return nil
	}
	list, isList := v.([]any)
	if !isList {
		id, ok := p.required(obj, "to", "edges", i)
		p.targets++
		if ok && !p.names(id) && !isEnd(id) {
			p.dangling(ProblemEdgeTargetInvalid, locText([]any{"edges", i, "to"}), id, "edges", i, "to")
		}
		return []string{id}
	}
	if len(list) == 0 {
		p.wrong("too_short", "List should have at least 1 item after validation, not 0", v, "edges", i, "to")
		return nil
	}
	if p.targets += len(list); p.targets > MaxEdgeTargets {
		return nil // reported once, by edges
	}
	to := make([]string, 0, len(list))
	for j, item := range list {
		id, ok := item.(string)
		switch {
		case !ok:
			p.wrong("string_type", "Input should be a valid string", item, "edges", i, "to", j)
		case !p.names(id) && !isEnd(id):
			p.dangling(ProblemEdgeTargetInvalid, locText([]any{"edges", i, "to"}), id, "edges", i, "to", j)
		}
		to = append(to, id)
	}
	return to
}

// isEnd reports whether a target leaves the workflow.
func isEnd(target string) bool {
	return strings.EqualFold(target, "end") || strings.EqualFold(target, "__end__")
}

func (p *parser) queues(root map[string]any) []Queue {
	list := p.array(root, "queues", MaxQueues)
	queues := make([]Queue, 0, len(list))
	for i, item := range list {
		obj, ok := p.model(item, "queues", i)
		if !ok {
			continue
		}
		q := Queue{ID: p.otherID(obj, "queues", i), From: p.from(obj, ProblemQueueSourceInvalid, "queues", i)}
		if q.To, ok = p.required(obj, "to", "queues", i); ok && !p.names(q.To) && !isEnd(q.To) {
			p.dangling(ProblemQueueTargetInvalid, locText([]any{"queues", i, "to"}), q.To, "queues", i, "to")
		}
		q.Bandwidth = p.bandwidth(obj, i)
		q.SubQueues = p.subQueues(obj, i)
		queues = append(queues, q)
	}
	return queues
}

// otherID reads the id of a queue or a source: any text a person can see.
func (p *parser) otherID(obj map[string]any, loc ...any) string {
	id, ok := p.required(obj, "id", loc...)
	if !ok {
		return ""
	}
	loc = append(loc, "id")
	if utf8.RuneCountInString(id) > maxOtherID {
		p.wrong("string_too_long", fmt.Sprintf("String should have at most %d characters", maxOtherID), shorten(id), loc...)
	} else if strings.ContainsFunc(id, func(r rune) bool { return r < 0x20 || r == 0x7F }) {
		p.wrong("string_pattern_mismatch", "String should not contain control characters", id, loc...)
	}
	return id
}

func (p *parser) bandwidth(obj map[string]any, i int) *Bandwidth {
	if obj["bandwidth"] == nil {
		return nil
	}
	b, ok := p.model(obj["bandwidth"], "queues", i, "bandwidth")
	if !ok {
		return nil
	}
	return &Bandwidth{
		MaxMessagesPerSecond: p.integer(b, "max_messages_per_second", maxInteger, "queues", i, "bandwidth"),
		MaxRequestsPerMinute: p.integer(b, "max_requests_per_minute", maxInteger, "queues", i, "bandwidth"),
		MaxTokensPerMinute:   p.integer(b, "max_tokens_per_minute", maxInteger, "queues", i, "bandwidth"),
		BurstSize:            p.integer(b, "burst_size", maxInteger, "queues", i, "bandwidth"),
	}
}

func (p *parser) subQueues(obj map[string]any, i int) []SubQueue {
	v := obj["sub_queues"]
	if v == nil {
		return nil
	}
	list, ok := v.([]any)
	if !ok {
		p.wrong("list_type", "Input should be a valid list", v, "queues", i, "sub_queues")
		return nil
	}
	if len(list) > MaxQueues {
		p.wrong("value_error", "Value error, at most "+strconv.Itoa(MaxQueues)+" sub_queues are allowed", nil, "queues", i, "sub_queues")
		return nil
	}
	var subs []SubQueue
	for j, item := range list {
		s, ok := p.model(item, "queues", i, "sub_queues", j)
		if !ok {
			continue
		}
		sub := SubQueue{ID: p.otherID(s, "queues", i, "sub_queues", j)}
		if _, there := s["weight"]; !there {
			p.missing(s, "queues", i, "sub_queues", j, "weight")
		} else if s["weight"] == nil {
			p.wrong("float_type", "Input should be a valid number", nil, "queues", i, "sub_queues", j, "weight")
		}
		sub.Weight = p.number(s, "weight", "queues", i, "sub_queues", j)
		if sub.Weight < 0 || sub.Weight > 1 {
			p.wrong("value_error", "Value error, the weight must be between 0 and 1", s["weight"], "queues", i, "sub_queues", j, "weight")
		}
		subs = append(subs, sub)
	}
	return subs
}

func (p *parser) sources(root map[string]any) []Source {
	list := p.array(root, "sources", MaxSources)
	sources := make([]Source, 0, len(list))
	for i, item := range list {
		obj, ok := p.model(item, "sources", i)
		if !ok {
			continue
		}
		s := Source{ID: p.otherID(obj, "sources", i)}
		s.Kind, _ = p.required(obj, "kind", "sources", i)
		s.Config = p.dict(obj, "config", "sources", i)
		sources = append(sources, s)
	}
	return sources
}
