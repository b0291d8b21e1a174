package execution

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/tools/txtar"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

var update = flag.Bool("update", false, "rewrite the answers in testdata")

// epoch is when every execution of these tests is requested.
var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

var testKey = protocol.ExecutionKey{Tenant: "acme", ID: "exec_1"}

// TestTranscripts runs the cases of testdata. Each holds a graph, a script of what happens, and
// after "want" what the state said after each line of it.
func TestTranscripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txtar")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			t.Parallel()
			archive, err := txtar.ParseFile(path)
			require.NoError(t, err)
			in := map[string]string{}
			for _, f := range archive.Files {
				in[f.Name] = string(f.Data)
			}
			require.NotEmpty(t, in["script"])
			got := play(t, parseGraph(t, in["graph"]), in["input.json"], in["script"])
			if !*update {
				require.Equal(t, in["want"], got)
				return
			}
			archive.Files = slices.DeleteFunc(archive.Files, func(f txtar.File) bool { return f.Name == "want" })
			archive.Files = append(archive.Files, txtar.File{Name: "want", Data: []byte(got)})
			require.NoError(t, os.WriteFile(path, txtar.Format(archive), 0o600))
		})
	}
}

// parseGraph reads the short form of a workflow:
//
//	max_iterations 3
//	a: router {"routes": [...]}
//	a -> b c [tokens_used < 3]
//
// Nodes are of type input unless they are declared; the first one named is the start.
func parseGraph(t testing.TB, text string) *workflow.Plan {
	t.Helper()
	type obj = map[string]any
	doc := obj{}
	var nodes []obj
	edges := []obj{}
	at := map[string]int{}
	name := func(id string) int {
		i, ok := at[id]
		if !ok {
			i = len(nodes)
			at[id] = i
			nodes = append(nodes, obj{"id": id, "type": "input", "metadata": obj{}})
		}
		return i
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if from, rest, ok := strings.Cut(line, "->"); ok && !strings.Contains(from, ":") {
			rest, condition, _ := strings.Cut(rest, "[")
			name(strings.TrimSpace(from))
			edge := obj{"from": strings.TrimSpace(from), "to": strings.Fields(rest)}
			if condition != "" {
				edge["condition"] = strings.TrimSuffix(condition, "]")
			}
			for _, to := range strings.Fields(rest) {
				if to != "end" {
					name(to)
				}
			}
			edges = append(edges, edge)
			continue
		}
		if id, rest, ok := strings.Cut(line, ":"); ok {
			typ, metadata, _ := strings.Cut(strings.TrimSpace(rest), " ")
			node := nodes[name(id):][0]
			node["type"] = typ
			if metadata != "" {
				node["metadata"] = json.RawMessage(metadata)
			}
			continue
		}
		if line != "" {
			key, value, _ := strings.Cut(line, " ")
			if value == "" {
				name(key)
				continue
			}
			doc[key] = json.RawMessage(value)
		}
	}
	doc["start_node"], doc["nodes"], doc["edges"] = nodes[0]["id"], nodes, edges
	raw, err := json.Marshal(doc)
	require.NoError(t, err)
	return compile(t, raw)
}

func compile(t testing.TB, doc []byte) *workflow.Plan {
	t.Helper()
	spec, err := workflow.Parse(doc)
	require.NoError(t, err)
	plan, err := workflow.Compile(spec)
	require.NoError(t, err)
	return plan
}

func newState(t testing.TB, plan *workflow.Plan, input string) *State {
	t.Helper()
	if input == "" {
		input = "{}"
	}
	s, err := New(testKey, plan, protocol.Requested{
		SpecHash: plan.Hash, Input: protocol.RawObject([]byte(input)), Deadline: protocol.At(epoch.Add(5 * time.Minute)),
	}, epoch)
	require.NoError(t, err)
	return s
}

// play does what a script says:
//
//	done a [intent=x] [{"delta":1}]     the node completed
//	fail a [CODE] [retry=5s]            an attempt failed
//	limit a 10s                         it waits for a queue
//	start | cancel WHY                  events from elsewhere
//	clock 5s                            the time, counted from the request
//	all                                 every node that can run completes with nothing, in order, until the end
//	end                                 the terminal event that Next asks for
func play(t *testing.T, plan *workflow.Plan, input, script string) string {
	t.Helper()
	s := newState(t, plan, input)
	now := epoch
	var out bytes.Buffer
	fmt.Fprintln(&out, describe(s, now))
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		fmt.Fprintf(&out, "\n> %s\n", line)
		words := strings.Fields(line)
		switch words[0] {
		case "clock":
			d, err := time.ParseDuration(words[1])
			require.NoError(t, err)
			now = epoch.Add(d)
		case "all":
			for {
				run, ok := s.Next(now)[0].(Run)
				if !ok {
					break
				}
				apply(t, s, now, s.Complete(run, Result{StartedAt: now}, now))
			}
		case "end":
			f, ok := s.Next(now)[0].(Finish)
			require.True(t, ok, "nothing to finish at %q", line)
			apply(t, s, now, f.Event)
		default:
			apply(t, s, now, eventOf(t, s, now, words, line))
		}
		fmt.Fprintln(&out, describe(s, now))
	}
	return out.String()
}

func eventOf(t *testing.T, s *State, now time.Time, words []string, line string) protocol.Event {
	t.Helper()
	switch words[0] {
	case "start":
		return protocol.Started{Executor: "x", Delivery: s.Deliveries + 1}
	case "cancel":
		return protocol.CancelRequested{Actor: "key_1", Reason: strings.Join(words[1:], " ")}
	}
	n, ok := s.Plan.NodeIndex(words[1])
	require.True(t, ok, line)
	run := Run{Node: n, Iteration: s.Iteration(n), Attempt: s.Attempts(n) + 1}
	switch words[0] {
	case "limit":
		d, err := time.ParseDuration(words[2])
		require.NoError(t, err)
		return protocol.NodeRateLimited{Node: words[1], Iteration: run.Iteration, Queue: "q", Metric: protocol.MetricTokens, RetryAt: protocol.At(now.Add(d))}
	case "fail":
		f := protocol.Failure{Code: protocol.CodeNodeFailed, Message: "it broke"}
		var next time.Time
		for _, w := range words[2:] {
			if after, ok := strings.CutPrefix(w, "retry="); ok {
				d, err := time.ParseDuration(after)
				require.NoError(t, err)
				next = now.Add(d)
			} else {
				f.Code = protocol.Code(w)
			}
		}
		return s.Fail(run, f, now, now, next)
	}
	require.Equal(t, "done", words[0], line)
	res := Result{StartedAt: now}
	if i := strings.Index(line, "{"); i > 0 {
		v, err := workflow.DecodeValues([]byte(line[i:]))
		require.NoError(t, err)
		res.Delta = v
		if n, ok := v["tokens_used"].(json.Number); ok {
			res.Tokens, err = n.Int64()
			require.NoError(t, err)
			res.Cost = "0.001"
		}
	}
	for _, w := range words[2:] {
		if intent, ok := strings.CutPrefix(w, "intent="); ok {
			res.Intent = &intent
		}
	}
	return s.Complete(run, res, now)
}

// apply sends an event through the wire form, as the log would.
func apply(t testing.TB, s *State, now time.Time, events ...protocol.Event) protocol.Record {
	t.Helper()
	c := protocol.Commit{ID: "c"}
	for _, e := range events {
		c.Events = append(c.Events, protocol.Stamped{At: protocol.At(now), Event: e})
	}
	body, err := protocol.EncodeCommit(c)
	require.NoError(t, err)
	read, err := protocol.DecodeCommit("c", body)
	require.NoError(t, err)
	rec := protocol.Record{Commit: read}
	s.Follow([]protocol.Record{rec})
	return rec
}

func describe(s *State, now time.Time) string {
	parts := []string{string(s.Status)}
	if path, _ := s.Values["execution_path"].([]any); len(path) > 0 {
		words := make([]string, len(path))
		for i, p := range path {
			words[i] = p.(string)
		}
		parts = append(parts, "path "+strings.Join(words, " "))
	}
	for _, w := range s.RateLimited() {
		parts = append(parts, "limited "+w.Node+" by "+w.Queue+" "+string(w.Metric))
	}
	for _, step := range s.Next(now) {
		switch step := step.(type) {
		case Run:
			text := "run " + s.Plan.Nodes[step.Node].ID
			if step.Iteration > 0 {
				text += fmt.Sprintf(" iteration %d", step.Iteration)
			}
			if step.Attempt > 1 {
				text += fmt.Sprintf(" attempt %d", step.Attempt)
			}
			parts = append(parts, text)
		case Wait:
			parts = append(parts, fmt.Sprintf("wait %s until %s", s.Plan.Nodes[step.Node].ID, step.Until.Sub(epoch)))
		case Finish:
			parts = append(parts, "finish "+describeEnd(step.Event))
		}
	}
	return strings.Join(parts, "\n  ")
}

func describeEnd(e protocol.Event) string {
	totals := func(t protocol.Totals) string {
		return fmt.Sprintf("(%d nodes, %d tokens, cost %s, %d ms)", t.NodesRun, t.TokensUsed, t.Cost, t.DurationMS)
	}
	switch e := e.(type) {
	case protocol.Completed:
		return "completed " + totals(e.Totals)
	case protocol.Failed:
		return fmt.Sprintf("failed %s %s %s", e.Error.Code, e.Error.Error(), totals(e.Totals))
	case protocol.TimedOut:
		return fmt.Sprintf("timed_out %s %s after %d ms %s", e.Scope, e.Node, e.ElapsedMS, totals(e.Totals))
	case protocol.Cancelled:
		return fmt.Sprintf("cancelled by %s: %s %s", e.Actor, e.Reason, totals(e.Totals))
	default:
		return fmt.Sprintf("%T", e)
	}
}
