package workflow

import (
	"slices"
	"strings"
)

// Outcome is how a node run ended, as far as its edges care.
type Outcome struct {
	Intent    string // what this router just decided
	HasIntent bool
	Failed    bool // failed for good, and its on_error is continue or branch
}

// Taken returns the edges that a node's end takes, ascending. All its other edges are dead.
//
// When the node failed: with on_error branch the OnError edge alone is taken, with continue its
// edges count as if it had completed, and otherwise none is taken. A condition that cannot be
// decided gives a *ConditionError.
func (p *Plan) Taken(node int, o Outcome, v Values) ([]int, error) {
	n := &p.Nodes[node]
	if o.Failed && n.OnError != "continue" {
		return p.errorEdges(n), nil
	}
	picked := p.picked(n, o, v)
	var taken []int
	for _, i := range n.Out {
		e := &p.Edges[i]
		switch e.Kind {
		case Always:
			taken = append(taken, i)
		case Pick:
			if slices.Contains(picked, i) {
				taken = append(taken, i)
			}
		case When:
			holds, err := e.condition.holds(names{values: v, outcome: o})
			if err != nil {
				return nil, &ConditionError{Edge: i, Expression: e.condition.text, Err: err}
			}
			if holds {
				taken = append(taken, i)
			}
		case OnError:
		}
	}
	return taken, nil
}

func (p *Plan) errorEdges(n *PlanNode) []int {
	if n.OnError != "branch" {
		return nil
	}
	var taken []int
	for _, i := range n.Out {
		if p.Edges[i].Kind == OnError {
			taken = append(taken, i)
		}
	}
	return taken
}

// picked chooses one edge of each group of the router.
func (p *Plan) picked(n *PlanNode, o Outcome, v Values) []int {
	if len(n.picks) == 0 {
		return nil
	}
	intent := o.Intent
	if !o.HasIntent {
		intent, _ = textValue(v, "intent")
	}
	picked := make([]int, 0, len(n.picks))
	for _, group := range n.picks {
		picked = append(picked, p.pick(group, intent, n.Router.target(intent)))
	}
	return picked
}

func textValue(v Values, key string) (string, bool) {
	value, _ := v.Lookup(key)
	s, ok := value.(string)
	return s, ok
}

// pick chooses by the target a route names, else by name, else by a name that contains the
// intent, else the first.
func (p *Plan) pick(group []int, intent, target string) int {
	if target != "" {
		for _, i := range group {
			if e := p.Edges[i]; e.target == target || e.To == End && isEnd(target) {
				return i
			}
		}
	}
	if intent == "" {
		return group[0]
	}
	for _, i := range group {
		if strings.EqualFold(p.Edges[i].target, intent) {
			return i
		}
	}
	lower := strings.ToLower(intent)
	for _, i := range group {
		if strings.Contains(strings.ToLower(p.Edges[i].target), lower) {
			return i
		}
	}
	return group[0]
}
