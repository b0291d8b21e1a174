package workflow

import (
	"fmt"
	"slices"
	"strings"
)

// conditionIntent is the condition of the edges among which a router picks.
const conditionIntent = "intent"

func (b *builder) edges() {
	for i, e := range b.spec.Edges {
		field := fmt.Sprintf("edges[%d]", i)
		from, ok := b.plan.index[e.From]
		if !ok {
			b.errors.add(NewProblem(ProblemEdgeSourceInvalid, "", field+".from", "%s", namesNoNode(field+".from", e.From)))
		}
		if len(e.To) == 0 {
			b.errors.add(NewProblem(ProblemEdgeTargetInvalid, e.From, field+".to", "an edge needs at least one target"))
		}
		kind, program := b.condition(e, field)
		for _, name := range e.To {
			to, known := b.target(name)
			if !known {
				b.errors.add(NewProblem(ProblemEdgeTargetInvalid, "", field+".to", "%s", namesNoNode(field+".to", name)))
			}
			if ok && known {
				b.connect(PlanEdge{From: from, To: to, Kind: kind, target: name, condition: program})
			}
		}
	}
}

func (b *builder) connect(e PlanEdge) int {
	e.Loop, e.Queue = None, None
	i := len(b.plan.Edges)
	b.plan.Edges = append(b.plan.Edges, e)
	b.plan.Nodes[e.From].Out = append(b.plan.Nodes[e.From].Out, i)
	return i
}

// condition says what an edge's condition makes of it. Edges of a router that turn out to be
// alternatives of each other become Pick later.
func (b *builder) condition(e Edge, field string) (EdgeKind, *condition) {
	text := strings.TrimSpace(e.Condition)
	switch text {
	case "":
		return Always, nil
	case conditionIntent:
		if i, ok := b.plan.index[e.From]; ok && b.plan.Nodes[i].Router == nil {
			b.errors.add(NewProblem(ProblemMetadataInvalid, e.From, field+".condition",
				"the condition \"intent\" picks a branch after a router, but %s is of type %s; write an expression such as intent == 'text'",
				quoted(e.From), quoted(b.plan.Nodes[i].Type)))
		}
		return Pick, nil
	}
	compiled, done := b.conditions[text]
	if !done {
		if len(b.conditions) >= maxConditions {
			if !b.refused {
				b.refused = true
				b.errors.add(NewProblem(ProblemMetadataInvalid, e.From, field+".condition",
					"at most %d different conditions are allowed in one workflow", maxConditions))
			}
			return When, nil
		}
		compiled.condition, compiled.err = conditionOf(text)
		b.conditions[text] = compiled
	}
	if compiled.err != nil {
		b.errors.add(NewProblem(ProblemMetadataInvalid, e.From, field+".condition",
			"the condition %s cannot be used: %s", quoted(text), compiled.err))
	}
	return When, compiled.condition
}

// routers finds the edges among which each router picks, and adds those that only a route names.
func (b *builder) routers() {
	for i := range b.plan.Nodes {
		if n := &b.plan.Nodes[i]; n.Router != nil {
			b.router(n)
		}
	}
}

func (b *builder) router(n *PlanNode) {
	var byIntent, plain []int
	reached := make(map[int]bool)
	for _, i := range n.Out {
		e := b.plan.Edges[i]
		reached[e.To] = true
		switch e.Kind {
		case Pick:
			byIntent = append(byIntent, i)
		case Always:
			plain = append(plain, i)
		case When, OnError: // not picked among
		}
	}
	explicit := len(n.Out)
	for _, to := range b.routeTargets(n) {
		switch {
		case len(byIntent) > 0:
			if !b.leadsTo(byIntent, to.index) {
				byIntent = append(byIntent, b.connect(PlanEdge{From: n.Index, To: to.index, Kind: Pick, target: to.name}))
			}
		case n.Router.Strategy == StrategyDefault:
			// It takes every edge it has; there is nothing to pick.
		case (explicit == 0 || len(plain) > 0) && !reached[to.index]:
			reached[to.index] = true
			plain = append(plain, b.connect(PlanEdge{From: n.Index, To: to.index, Kind: Always, target: to.name}))
		}
	}
	if len(byIntent) > 0 {
		n.picks = append(n.picks, byIntent)
	}
	if n.Router.Strategy == StrategyDefault {
		return
	}
	if b.severalTargets(plain) || explicit == 0 && len(plain) > 0 {
		for _, i := range plain {
			b.plan.Edges[i].Kind = Pick
		}
		n.picks = append(n.picks, plain)
	}
}

type routeTarget struct {
	name  string
	index int
}

// routeTargets lists the nodes that routes name, each once, and reports names of nothing.
func (b *builder) routeTargets(n *PlanNode) []routeTarget {
	var targets []routeTarget
	for i, r := range n.Router.routes {
		if r.target == "" {
			continue
		}
		to, ok := b.target(r.target)
		if !ok {
			field := fmt.Sprintf("metadata.routes[%d].target_node", i)
			b.errors.add(NewProblem(ProblemMetadataInvalid, n.ID, field, "%s", namesNoNode("target_node", r.target)))
			continue
		}
		if !slices.ContainsFunc(targets, func(t routeTarget) bool { return t.index == to }) {
			targets = append(targets, routeTarget{r.target, to})
		}
	}
	return targets
}

func (b *builder) leadsTo(edges []int, to int) bool {
	return slices.ContainsFunc(edges, func(i int) bool { return b.plan.Edges[i].To == to })
}

func (b *builder) severalTargets(edges []int) bool {
	return slices.ContainsFunc(edges, func(i int) bool { return b.plan.Edges[i].To != b.plan.Edges[edges[0]].To })
}

func (b *builder) errorEdges() {
	for i := range b.plan.Nodes {
		n := &b.plan.Nodes[i]
		if n.OnError != "branch" || n.errorTo == "" {
			continue
		}
		to, ok := b.target(n.errorTo)
		if !ok {
			b.errors.add(NewProblem(ProblemMetadataInvalid, n.ID, "metadata.error_to", "%s", namesNoNode("error_to", n.errorTo)))
			continue
		}
		b.connect(PlanEdge{From: i, To: to, Kind: OnError, target: n.errorTo})
	}
}
