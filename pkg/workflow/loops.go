package workflow

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// maxLoopDepth bounds how deep loops nest, and with it the work and memory of planning: a chain
// of 10,000 nodes with an edge back at every step would otherwise be 10,000 loops deep.
const maxLoopDepth = 64

// reach numbers the nodes in the order in which a depth-first walk from the start, taking edges
// in their order, first reaches them. Unreached nodes have None.
func (p *Plan) reach() []int {
	order := make([]int, len(p.Nodes))
	for i := range order {
		order[i] = None
	}
	type visit struct{ node, next int }
	order[p.Start] = 0
	count := 1
	stack := []visit{{node: p.Start}}
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		out := p.Nodes[top.node].Out
		if top.next == len(out) {
			stack = stack[:len(stack)-1]
			continue
		}
		to := p.Edges[out[top.next]].To
		top.next++
		if to != End && order[to] == None {
			order[to] = count
			count++
			stack = append(stack, visit{node: to})
		}
	}
	return order
}

func (b *builder) orphans(order []int) {
	for i, n := range b.plan.Nodes {
		if order[i] != None || b.plan.index[n.ID] != i {
			continue // reached, or a duplicate that is reported as one
		}
		why := "no path leads to it from start_node %s; add an edge or remove the node"
		if isEnd(n.ID) {
			why = "its name is reserved: an edge to it ends the path (start_node is %s); give the node another id"
		}
		b.errors.add(NewProblem(ProblemOrphanedNode, n.ID, "", "node %s never runs: "+why, quoted(n.ID), quoted(b.spec.StartNode)))
	}
}

// region is a set of nodes in which loops are yet to be found.
type region struct {
	nodes  []int
	parent int // the loop whose body this is, or None
	depth  int
}

// loops finds the loop nest: every strongly connected region is a loop whose header is its node
// first reached from the start. Without the edges into the header the region falls apart, and
// what is still connected are the loops inside. So loops nest properly by construction, and the
// edges that are left run forward only.
func (b *builder) loops(order []int) {
	p := b.plan
	var all []int
	for i := range p.Nodes {
		if order[i] != None {
			all = append(all, i)
		}
	}
	s := newSearch(p)
	regions := []region{{nodes: all, parent: None}}
	for len(regions) > 0 {
		r := regions[0]
		regions = regions[1:]
		if r.depth > maxLoopDepth {
			b.errors.add(NewProblem(ProblemCycleDetected, p.Nodes[p.Loops[r.parent].Header].ID, "",
				"loops nest deeper than %d; simplify the edges that lead back", maxLoopDepth))
			return
		}
		components := s.components(r.nodes)
		for _, c := range components {
			slices.SortFunc(c, func(x, y int) int { return cmp.Compare(order[x], order[y]) })
		}
		slices.SortFunc(components, func(x, y []int) int { return cmp.Compare(order[x[0]], order[y[0]]) })
		for _, c := range components {
			regions = append(regions, region{nodes: c, parent: b.loop(c, r.parent), depth: r.depth + 1})
		}
	}
	b.link()
}

// loop records a loop around the nodes, the first of which is its header.
func (b *builder) loop(nodes []int, parent int) int {
	p := b.plan
	index := len(p.Loops)
	body := slices.Sorted(slices.Values(nodes))
	p.Loops = append(p.Loops, Loop{Header: nodes[0], Body: body, Parent: parent})
	for _, i := range body {
		p.Nodes[i].Loop = index
	}
	for _, i := range body {
		for _, e := range p.Nodes[i].Out {
			if edge := &p.Edges[e]; edge.To == nodes[0] && !edge.Back {
				edge.Back, edge.Loop = true, index
			}
		}
	}
	b.warnings.add(NewProblem(ProblemCycleDetected, p.Nodes[nodes[0]].ID, "", "%s", describeLoop(p, nodes)))
	return index
}

func describeLoop(p *Plan, nodes []int) string {
	const most = 10
	var names []string
	for _, i := range nodes[:min(len(nodes), most)] {
		names = append(names, p.Nodes[i].ID)
	}
	if more := len(nodes) - most; more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	if len(nodes) == 1 {
		return fmt.Sprintf("node %s repeats itself, at most max_iterations times", names[0])
	}
	return fmt.Sprintf("nodes %s form a loop that starts at %s and repeats at most max_iterations times",
		strings.Join(names, ", "), names[0])
}

// link fills in what the edges and nodes know of each other once loops are known.
func (b *builder) link() {
	p := b.plan
	for i := range p.Edges {
		e := &p.Edges[i]
		e.Exits = p.exits(e.From, e.To)
		for _, l := range e.Exits {
			p.Loops[l].Exits = append(p.Loops[l].Exits, i)
		}
		switch {
		case e.To == End:
		case e.Back:
			p.Nodes[e.To].Back = append(p.Nodes[e.To].Back, i)
		default:
			p.Nodes[e.To].In = append(p.Nodes[e.To].In, i)
		}
	}
}

// exits lists the loops around from that do not hold to, innermost first.
func (p *Plan) exits(from, to int) []int {
	var left []int
	for l := p.Nodes[from].Loop; l != None && !p.holds(l, to); l = p.Loops[l].Parent {
		left = append(left, l)
	}
	return left
}

// holds reports whether a node is in a loop.
func (p *Plan) holds(loop, node int) bool {
	if node == End {
		return false
	}
	for l := p.Nodes[node].Loop; l != None; l = p.Loops[l].Parent {
		if l == loop {
			return true
		}
	}
	return false
}
