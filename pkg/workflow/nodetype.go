package workflow

import (
	"cmp"
	"slices"
)

// NodeType is one kind of node: what it is called, what it needs and how its metadata is checked.
// How it runs is the executor's business, except for the pure types, which live here whole.
type NodeType struct {
	Name        string
	Description string
	// Kind is the kind of source the node uses when it is not pure; "" when it never uses one.
	Kind string
	// OutputKey is where the node writes when its metadata does not say; "" when that depends.
	OutputKey string
	// Pure reports whether the node touches nothing outside the execution. Nil means never.
	Pure func(n Node) bool
	// Check reports everything that is wrong with the node's own metadata. Nil means nothing to check.
	// The metadata that every node shares (timeout_seconds, retry, on_error, source_id) is checked already.
	Check func(n Node, report func(Problem))

	// compile is Check for the types of this package: it keeps what it has read in the PlanNode.
	compile func(n *PlanNode, report func(Problem))
}

func (t NodeType) pure(n Node) bool { return t.Pure != nil && t.Pure(n) }

// contractOrder is the order in which clients have always seen the types listed.
var contractOrder = map[string]int{"input": 1, "router": 2, "llm": 3, "image": 4, "db": 5, "aggregator": 6, "api": 7}

// registered is written by init functions only, and read after them.
var registered = make(map[string]NodeType)

// RegisterNodeType adds a node type. Call it from init; it panics when the name is empty or taken.
func RegisterNodeType(t NodeType) {
	if t.Name == "" {
		panic("workflow: a node type needs a name")
	}
	if _, taken := registered[t.Name]; taken {
		panic("workflow: node type " + t.Name + " is registered twice")
	}
	if compile := t.compile; compile != nil && t.Check == nil {
		t.Check = func(n Node, report func(Problem)) { compile(&PlanNode{Node: n}, report) }
	}
	registered[t.Name] = t
}

// NodeTypes lists the registered types: the seven of this package first, then others by name.
func NodeTypes() []NodeType {
	list := make([]NodeType, 0, len(registered))
	for _, t := range registered {
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b NodeType) int {
		return cmp.Or(cmp.Compare(rank(a.Name), rank(b.Name)), cmp.Compare(a.Name, b.Name))
	})
	return list
}

func rank(name string) int {
	if r, ok := contractOrder[name]; ok {
		return r
	}
	return len(contractOrder) + 1
}

func nodeTypeNames() []string {
	var names []string
	for _, t := range NodeTypes() {
		names = append(names, t.Name)
	}
	return names
}

func always(Node) bool { return true }
