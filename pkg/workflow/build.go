package workflow

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
)

// builder turns a Spec into a Plan and collects everything that stands in the way. Validate and
// Compile share it, so that what validates also compiles.
type builder struct {
	spec     *Spec
	plan     *Plan
	errors   findings
	warnings findings

	conditions map[string]compiledCondition // by text: edges often share one
	refused    bool                         // too many conditions, said once
}

type compiledCondition struct {
	condition *condition
	err       error
}

func build(s *Spec) *builder {
	b := &builder{
		spec:       s,
		plan:       &Plan{Spec: s, Start: None, index: make(map[string]int, len(s.Nodes))},
		conditions: make(map[string]compiledCondition),
	}
	b.limits()
	b.nodes()
	b.start()
	b.edges()
	b.routers()
	b.errorEdges()
	b.queues()
	if b.plan.Start != None {
		order := b.plan.reach()
		b.orphans(order)
		b.loops(order)
	}
	return b
}

func (b *builder) invalid(field, format string, args ...any) {
	b.errors.add(NewProblem(ProblemSpecInvalid, "", field, format, args...))
}

// limits repeats for a Spec built in code what Parse refuses in a document.
func (b *builder) limits() {
	s := b.spec
	if len(s.Nodes) == 0 {
		b.invalid("nodes", "a workflow needs at least one node")
	}
	if s.TimeoutSeconds < 0 || s.TimeoutSeconds > maxSeconds {
		b.invalid("timeout_seconds", "timeout_seconds must be more than 0 and at most %d", maxSeconds)
	}
	if s.MaxIterations < 0 || s.MaxIterations > MaxIterations {
		b.invalid("max_iterations", "max_iterations must be between 1 and %d", MaxIterations)
	}
	targets := 0
	for _, e := range s.Edges {
		targets += len(e.To)
	}
	for _, l := range []struct {
		field       string
		count, most int
	}{
		{"nodes", len(s.Nodes), MaxNodes},
		{"edges", targets, MaxEdgeTargets},
		{"queues", len(s.Queues), MaxQueues},
		{"sources", len(s.Sources), MaxSources},
	} {
		if l.count > l.most {
			b.invalid(l.field, "at most %d %s are allowed, not %d", l.most, l.field, l.count)
		}
	}
}

func (b *builder) nodes() {
	b.plan.Nodes = make([]PlanNode, 0, len(b.spec.Nodes))
	for i, n := range b.spec.Nodes {
		if !isNodeID(n.ID) || len(n.ID) > maxNodeID {
			b.invalid(fmt.Sprintf("nodes[%d].id", i), "a node id has 1 to %d letters, digits, _ or -, not %s", maxNodeID, quoted(n.ID))
		}
		if _, taken := b.plan.index[n.ID]; taken {
			b.errors.add(NewProblem(ProblemDuplicateNode, n.ID, fmt.Sprintf("nodes[%d].id", i), "the node id %s is used twice", quoted(n.ID)))
		} else {
			b.plan.index[n.ID] = i
		}
		b.plan.Nodes = append(b.plan.Nodes, b.node(n, i))
	}
}

func (b *builder) node(n Node, i int) PlanNode {
	if n.Metadata == nil {
		n.Metadata = map[string]any{}
	}
	pn := PlanNode{Node: n, Index: i, Loop: None}
	t, known := registered[n.Type]
	if !known {
		b.errors.add(NewProblem(ProblemNodeTypeInvalid, n.ID, fmt.Sprintf("nodes[%d].type", i),
			"the node type %s is unknown; use one of %s", quoted(n.Type), strings.Join(nodeTypeNames(), ", ")))
	}
	f := NodeFields(n, b.errors.add)
	pn.Pure = t.pure(n)
	pn.SourceID = f.Name("source_id", "")
	if pn.SourceID == "" {
		pn.SourceID = f.Name("source", "")
	}
	pn.Timeout = f.Seconds("timeout_seconds")
	pn.Retry = readRetry(f)
	pn.OnError = f.OneOf("on_error", "", "fail", "continue", "branch")
	pn.errorTo = f.Name("error_to", "")
	if pn.OnError == "branch" && !f.Has("error_to") {
		f.Missing("error_to", "on_error branch needs error_to: the node to go on with when this one fails")
	}
	pn.OutputKey = f.Name("output_key", t.OutputKey)
	if r := reducers[pn.OutputKey]; f.Has("output_key") && (r == addInteger || r == addDecimal || pn.OutputKey == "execution_path" || pn.OutputKey == "current_node") {
		f.Invalid("output_key", "output_key %s is reserved: the platform counts there; choose another", pn.OutputKey)
	}
	switch {
	case t.compile != nil:
		t.compile(&pn, b.errors.add)
	case t.Check != nil:
		t.Check(n, b.errors.add)
	}
	return pn
}

func readRetry(f Fields) Retry {
	r, ok := f.Object("retry")
	if !ok {
		return Retry{}
	}
	policy := Retry{
		MaxAttempts:     r.Integer("max_attempts", 0, 1, 20),
		InitialInterval: r.Seconds("initial_interval"),
		Backoff:         r.Number("backoff", 0, 1, 1000),
		MaxInterval:     r.Seconds("max_interval"),
		On:              r.Texts("on", nil),
	}
	for _, class := range policy.On {
		if !slices.Contains([]string{"timeout", "5xx", "429", "network"}, class) {
			r.Invalid("on", "retry.on may hold timeout, 5xx, 429 and network, not %s", quoted(class))
		}
	}
	if policy.MaxInterval > 0 && policy.InitialInterval > policy.MaxInterval {
		r.Invalid("initial_interval", "initial_interval %s is more than max_interval %s",
			policy.InitialInterval.Round(time.Millisecond), policy.MaxInterval.Round(time.Millisecond))
	}
	return policy
}

func (b *builder) start() {
	id := b.spec.StartNode
	if id == "" {
		b.errors.add(NewProblem(ProblemStartNodeMissing, "", "start_node", "start_node is missing; name the node the workflow starts with"))
		return
	}
	i, ok := b.plan.index[id]
	if !ok {
		b.errors.add(NewProblem(ProblemStartNodeInvalid, "", "start_node", "%s", namesNoNode("start_node", id)))
		return
	}
	b.plan.Start = i
}

func (b *builder) queues() {
	type pair struct{ from, to int }
	queues := make(map[pair]int, len(b.spec.Queues))
	ids := make(map[string]bool, len(b.spec.Queues))
	used := make([]bool, len(b.spec.Queues))
	for i, q := range b.spec.Queues {
		field := fmt.Sprintf("queues[%d]", i)
		if ids[q.ID] {
			b.errors.add(NewProblem(ProblemDuplicateQueue, "", field+".id", "the queue id %s is used twice", quoted(q.ID)))
		}
		ids[q.ID] = true
		from, okFrom := b.plan.index[q.From]
		if !okFrom {
			b.errors.add(NewProblem(ProblemQueueSourceInvalid, "", field+".from", "%s", namesNoNode(field+".from", q.From)))
		}
		to, okTo := b.target(q.To)
		if !okTo {
			b.errors.add(NewProblem(ProblemQueueTargetInvalid, "", field+".to", "%s", namesNoNode(field+".to", q.To)))
		}
		if !okFrom || !okTo {
			used[i] = true // it has its error; a warning would only repeat it
			continue
		}
		if first, taken := queues[pair{from, to}]; taken {
			b.warnings.add(NewProblem(ProblemQueueUnused, "", field,
				"queue %s limits nothing: the edge has the queue %s already", quoted(q.ID), quoted(b.spec.Queues[first].ID)))
			used[i] = true
			continue
		}
		queues[pair{from, to}] = i
	}
	for i := range b.plan.Edges {
		e := &b.plan.Edges[i]
		if q, ok := queues[pair{e.From, e.To}]; ok {
			e.Queue = q
			used[q] = true
		}
	}
	for i, q := range b.spec.Queues {
		if !used[i] {
			b.warnings.add(NewProblem(ProblemQueueUnused, "", fmt.Sprintf("queues[%d]", i),
				"queue %s limits nothing: there is no edge from %s to %s", quoted(q.ID), quoted(q.From), quoted(q.To)))
		}
	}
}

// target resolves an edge's target. The names of the end win over a node of that name.
func (b *builder) target(name string) (int, bool) {
	if isEnd(name) {
		return End, true
	}
	i, ok := b.plan.index[name]
	return i, ok
}

// Compile makes the plan of a spec. What stands in the way is reported as an *InvalidError;
// sources that only the tenant has are not looked at.
func Compile(s *Spec) (*Plan, error) {
	b := build(s)
	if problems := b.errors.all(); len(problems) > 0 {
		return nil, &InvalidError{Problems: problems}
	}
	return b.finish()
}

func (b *builder) finish() (*Plan, error) {
	doc, err := b.spec.MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("hash the workflow: %w", err)
	}
	b.plan.Hash = Hash(doc)
	return b.plan, nil
}

// Hash is the name of a document's content: its SHA-256 in hexadecimal.
func Hash(doc []byte) string {
	sum := sha256.Sum256(doc)
	return hex.EncodeToString(sum[:])
}
