package workflow

import "time"

// End is the target of a PlanEdge that leaves the workflow.
const End = -1

// None marks an absent index: a node in no loop, an edge without a queue.
const None = -1

// EdgeKind says what decides whether a PlanEdge is taken once its node has ended.
type EdgeKind uint8

const (
	// Always is taken whenever its node completed.
	Always EdgeKind = iota
	// Pick is one candidate among the Pick edges of its router: exactly one of them is taken, by intent.
	Pick
	// When is taken when its CEL condition is true.
	When
	// OnError is taken only when its node failed for good and said on_error: branch.
	OnError
)

// Plan is a validated Spec compiled for execution: names are indexes, conditions are
// programs, loops are known. A Plan is immutable and safe for concurrent use.
type Plan struct {
	Hash  string // hex SHA-256 of the spec document
	Spec  *Spec
	Start int // index into Nodes
	Nodes []PlanNode
	Edges []PlanEdge
	Loops []Loop

	index map[string]int
}

// PlanNode is a node with everything about it that can be known before it runs.
type PlanNode struct {
	Node            // ID, Type, Metadata as written
	Index    int    // own index in Plan.Nodes
	In       []int  // forward edges that end here: a join waits for each to be taken or dead
	Back     []int  // back edges that end here: this node is the header of a loop
	Out      []int  // all edges that start here, in the order of the spec
	Loop     int    // innermost loop that holds the node, or None
	Pure     bool   // touches nothing outside: input, aggregator, router without llm
	SourceID string // source_id or its alias source; "" when the node names none
	Timeout  time.Duration
	Retry    Retry
	OnError  string // "", "fail", "continue" or "branch"

	OutputKey string // where the node writes: as written, else the default of its type

	// What the node's metadata compiles to; nil where it does not apply.
	Input      *Input
	Router     *Router
	Aggregator *Aggregator
	Prompt     *Template // llm, image: prompt or prompt_template; nil for an image node without either
	Query      *Template // db: query or query_template
	Endpoint   *Template // api

	errorTo string
	picks   [][]int // groups of Pick edges: exactly one edge of each is taken
}

// PlanEdge is one (from, to) pair: a spec edge with several targets becomes several.
type PlanEdge struct {
	From  int
	To    int // node index, or End
	Kind  EdgeKind
	Back  bool  // re-enters the header of Loop
	Loop  int   // for a back edge, the loop it repeats; else None
	Exits []int // loops this edge leaves, innermost first (an edge to End leaves every loop around its node)
	Queue int   // index into Spec.Queues, or None

	target    string // as written, for picking by name
	condition *condition
}

// NodeIndex returns the index of a node in Plan.Nodes.
func (p *Plan) NodeIndex(id string) (int, bool) {
	i, ok := p.index[id]
	return i, ok
}

// Loop is a strongly connected region with one header. Loops nest: Body holds the nodes of
// inner loops too, and Parent is the loop around this one, or None.
type Loop struct {
	Header int
	Body   []int // ascending, header included
	Parent int
	Exits  []int // edges that leave the loop
}

// Retry is a node's retry policy; the zero value means the defaults of its node type.
type Retry struct {
	MaxAttempts     int
	InitialInterval time.Duration
	Backoff         float64
	MaxInterval     time.Duration
	On              []string // timeout, 5xx, 429, network
}
