package workflow

// search finds strongly connected components (Tarjan), without recursion: a workflow may be a
// chain of 10,000 nodes. Its arrays serve many regions of one plan in turn.
type search struct {
	plan    *Plan
	region  []int // which call of components a node belongs to
	call    int
	number  []int // order of discovery, 0 when not discovered in this call
	low     []int
	onStack []bool
}

func newSearch(p *Plan) *search {
	n := len(p.Nodes)
	return &search{plan: p, region: make([]int, n), number: make([]int, n), low: make([]int, n), onStack: make([]bool, n)}
}

// components returns the components among nodes that hold a cycle, ignoring back edges.
func (s *search) components(nodes []int) [][]int {
	s.call++
	for _, i := range nodes {
		s.region[i], s.number[i], s.onStack[i] = s.call, 0, false
	}
	type visit struct{ node, next int }
	var (
		found [][]int
		open  []int
		path  []visit
		count int
	)
	enter := func(i int) {
		count++
		s.number[i], s.low[i], s.onStack[i] = count, count, true
		open = append(open, i)
		path = append(path, visit{node: i})
	}
	for _, root := range nodes {
		if s.number[root] != 0 {
			continue
		}
		enter(root)
		for len(path) > 0 {
			top := &path[len(path)-1]
			i := top.node
			if out := s.plan.Nodes[i].Out; top.next < len(out) {
				e := s.plan.Edges[out[top.next]]
				top.next++
				switch {
				case e.Back || e.To == End || s.region[e.To] != s.call:
				case s.number[e.To] == 0:
					enter(e.To)
				case s.onStack[e.To]:
					s.low[i] = min(s.low[i], s.number[e.To])
				}
				continue
			}
			path = path[:len(path)-1]
			if len(path) > 0 {
				above := path[len(path)-1].node
				s.low[above] = min(s.low[above], s.low[i])
			}
			if s.low[i] == s.number[i] {
				var c []int
				if c, open = s.pop(open, i); len(c) > 1 || s.repeatsItself(i) {
					found = append(found, c)
				}
			}
		}
	}
	return found
}

// pop takes the component that root closes off the stack.
func (s *search) pop(open []int, root int) (component, rest []int) {
	at := len(open) - 1
	for open[at] != root {
		at--
	}
	component = append(component, open[at:]...)
	for _, i := range component {
		s.onStack[i] = false
	}
	return component, open[:at]
}

func (s *search) repeatsItself(i int) bool {
	for _, e := range s.plan.Nodes[i].Out {
		if edge := s.plan.Edges[e]; edge.To == i && !edge.Back {
			return true
		}
	}
	return false
}
