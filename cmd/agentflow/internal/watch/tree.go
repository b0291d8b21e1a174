package watch

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/agentflow/agentflow/pkg/workflow"
)

// Palette colours texts by what they mean.
type Palette struct{ Good, Bad, Waits, Dim, Bold func(string) string }

func same(text string) string { return text }

// Plain has no colours.
var Plain = Palette{same, same, same, same, same} //nolint:gochecknoglobals // a constant, as far as Go can say it

// Tree is an execution and its nodes, as far as events have told.
type Tree struct {
	id       string
	workflow string
	status   string
	asked    time.Time
	ended    time.Time
	tokens   int64
	cost     string
	trouble  string
	order    []string // nodes as they were first heard of
	nodes    map[string]*node
	children map[string][]string
	roots    []string
}

// node is one node with its last run; the rest is summed up.
type node struct {
	status   string // "" before anything is known of it
	since    time.Time
	duration int64
	runs     int
	attempt  int
	tokens   int64
	about    string
}

// NewTree is an execution that nothing is known of.
func NewTree(id string) *Tree {
	return &Tree{id: id, status: "PENDING", nodes: map[string]*node{}}
}

// Status is that of the execution.
func (t *Tree) Status() string { return t.status }

// Outline adds the nodes of the workflow, and which follows which: each hangs below the first that leads to it.
func (t *Tree) Outline(spec json.RawMessage) {
	parsed, _ := workflow.Parse(spec)
	if parsed == nil {
		return
	}
	t.children = map[string][]string{}
	placed := map[string]bool{parsed.StartNode: true}
	t.roots = []string{parsed.StartNode}
	for next := t.roots; len(next) > 0; {
		var after []string
		for _, from := range next {
			for _, edge := range parsed.Edges {
				if edge.From != from {
					continue
				}
				for _, to := range edge.To {
					if !placed[to] && slices.ContainsFunc(parsed.Nodes, func(n workflow.Node) bool { return n.ID == to }) {
						placed[to] = true
						t.children[from] = append(t.children[from], to)
						after = append(after, to)
					}
				}
			}
		}
		next = after
	}
}

// Apply takes in an event.
func (t *Tree) Apply(e Event) {
	d := e.Data
	switch name := e.Name(); name {
	case "requested":
		t.asked, t.workflow = e.At, d.WorkflowName
	case "started":
		t.status = "RUNNING"
	case "node_completed":
		n := t.node(d.Node)
		n.status, n.duration, n.attempt, n.about = "COMPLETED", d.DurationMS, d.Attempt, ""
		n.runs++
		n.tokens += d.Tokens
		t.tokens += d.Tokens
		if d.Intent != nil {
			n.about = "→ " + *d.Intent
		}
	case "node_failed":
		n := t.node(d.Node)
		n.status, n.duration, n.attempt, n.about = "FAILED", d.DurationMS, d.Attempt, e.failure()
		if d.NextTryAt != "" {
			n.status = "RETRYING"
		}
	case "node_rate_limited":
		n := t.node(d.Node)
		n.status, n.about, n.since = "RATE_LIMITED", "waits for "+d.Metric+" of "+d.Queue, e.At
	case "completed", "failed", "timed_out", "cancelled":
		t.status, t.ended = strings.ToUpper(name), e.At
		t.tokens, t.cost = d.Totals.Tokens, strings.Trim(string(d.Totals.Cost), `"`)
		t.trouble = e.failure()
		if d.Reason != "" {
			t.trouble = d.Reason
		}
		if d.Scope == "node" {
			n := t.node(d.Node)
			n.status, n.about = "TIMED_OUT", ""
		}
	}
	if t.status == "PENDING" && d.Node != "" {
		t.status = "RUNNING"
	}
}

// Progress takes in a message of live progress: it is for eyes, and may be missing or of a kind that is new.
func (t *Tree) Progress(raw json.RawMessage) {
	var p struct {
		Type    string    `json:"type"`
		Node    string    `json:"node"`
		Attempt int       `json:"attempt"`
		Text    string    `json:"text"`
		At      time.Time `json:"at"`
	}
	if json.Unmarshal(raw, &p) != nil || p.Node == "" || !t.ended.IsZero() {
		return
	}
	n := t.node(p.Node)
	switch p.Type {
	case "node_started":
		n.status, n.since, n.attempt, n.about = "RUNNING", p.At, p.Attempt, ""
	case "tokens":
		const tail = 60 // of what a model writes, the end
		text := []rune(n.about + p.Text)
		n.about = string(text[max(0, len(text)-tail):])
	}
}

func (t *Tree) node(id string) *node {
	if n := t.nodes[id]; n != nil {
		return n
	}
	n := &node{}
	t.nodes[id] = n
	t.order = append(t.order, id)
	return n
}

// Draw is the tree as lines, none wider than width (0: any width).
func (t *Tree) Draw(now time.Time, p Palette, width int) []string {
	var lines []line
	head := line{{t.id, p.Bold}, {"  ", same}, {t.status, p.status(t.status)}}
	if !t.asked.IsZero() {
		end := now
		if !t.ended.IsZero() {
			end = t.ended
		}
		head = append(head, span{"  " + duration(max(0, end.Sub(t.asked).Milliseconds())), same})
	}
	if t.tokens > 0 {
		head = append(head, span{fmt.Sprintf("  %d tokens", t.tokens), same})
	}
	if t.cost != "" && t.cost != "0" {
		head = append(head, span{"  cost " + t.cost, same})
	}
	if t.workflow != "" {
		head = append(head, span{"  " + t.workflow, p.Dim})
	}
	lines = append(lines, head)

	roots := t.roots
	placed := map[string]bool{}
	var walk func(ids []string, indent string)
	walk = func(ids []string, indent string) {
		for i, id := range ids {
			placed[id] = true
			branch, below := "├─ ", "│  "
			if i == len(ids)-1 {
				branch, below = "└─ ", "   "
			}
			lines = append(lines, t.drawNode(id, indent+branch, now, p))
			walk(t.children[id], indent+below)
		}
	}
	if roots == nil {
		roots = t.order
	}
	walk(roots, "")
	for _, id := range t.order { // what the outline does not know
		if !placed[id] {
			lines = append(lines, t.drawNode(id, "└─ ", now, p))
		}
	}
	if t.trouble != "" {
		lines = append(lines, line{{t.trouble, p.status(t.status)}})
	}
	drawn := make([]string, len(lines))
	for i, l := range lines {
		drawn[i] = l.cut(width)
	}
	return drawn
}

func (t *Tree) drawNode(id, branch string, now time.Time, p Palette) line {
	n := t.nodes[id]
	if n == nil || n.status == "" {
		return line{{branch, p.Dim}, {"· " + id, p.Dim}}
	}
	mark := map[string]string{"COMPLETED": "✓", "FAILED": "✗", "TIMED_OUT": "✗", "RETRYING": "↻", "RATE_LIMITED": "…", "RUNNING": "▸"}[n.status]
	l := line{{branch, p.Dim}, {mark, p.status(n.status)}, {" " + id, same}}
	if n.status == "COMPLETED" || n.status == "FAILED" || n.status == "RETRYING" {
		l = append(l, span{"  " + duration(n.duration), same})
	}
	if n.status == "RUNNING" && !n.since.IsZero() && t.ended.IsZero() {
		l = append(l, span{"  " + duration(max(0, now.Sub(n.since).Milliseconds())), same})
	}
	if n.tokens > 0 {
		l = append(l, span{fmt.Sprintf("  %d tokens", n.tokens), same})
	}
	if n.runs > 1 {
		l = append(l, span{fmt.Sprintf("  ×%d", n.runs), p.Dim})
	}
	if n.attempt > 1 {
		l = append(l, span{fmt.Sprintf("  attempt %d", n.attempt), p.Waits})
	}
	if n.about != "" {
		l = append(l, span{"  " + n.about, p.Dim})
	}
	return l
}

func (p Palette) status(status string) func(string) string {
	switch status {
	case "COMPLETED":
		return p.Good
	case "FAILED", "TIMED_OUT":
		return p.Bad
	}
	return p.Waits
}

// span is text in a colour, line what stands on one line.
type span struct {
	text  string
	paint func(string) string
}
type line []span

// cut paints the line, and leaves out what goes beyond width.
func (l line) cut(width int) string {
	var b strings.Builder
	room := width
	for _, s := range l {
		text := Harmless(s.text)
		if width > 0 {
			if room <= 0 {
				break
			}
			if utf8.RuneCountInString(text) > room {
				text = string([]rune(text)[:room])
			}
			room -= utf8.RuneCountInString(text)
		}
		b.WriteString(s.paint(text))
	}
	return b.String()
}

// Harmless is text that cannot steer the terminal: names and messages come from whoever wrote the workflow.
func Harmless(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.In(r, unicode.Cf) {
			return '\uFFFD'
		}
		return r
	}, text)
}
