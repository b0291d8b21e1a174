package execution_test

import (
	"fmt"
	"time"

	"github.com/agentflow/agentflow/pkg/execution"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

// The loop of an engine: ask what is next, do it, apply what happened.
func Example() {
	spec, err := workflow.Parse([]byte(`{
		"start_node": "ask",
		"nodes": [{"id": "ask", "type": "input"}, {"id": "answer", "type": "input"}],
		"edges": [{"from": "ask", "to": "answer"}]}`))
	if err != nil {
		panic(err)
	}
	plan, err := workflow.Compile(spec)
	if err != nil {
		panic(err)
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	key := protocol.KeyOf(protocol.DefaultParts, "acme", "exec_1")
	s, err := execution.New(key, plan, protocol.Requested{Input: protocol.ObjectOf(workflow.Values{"user_input": "hello"})}, now)
	if err != nil {
		panic(err)
	}
	for !s.Done() {
		for _, step := range s.Next(now) {
			var happened protocol.Event
			switch step := step.(type) {
			case execution.Run:
				fmt.Println("run", plan.Nodes[step.Node].ID)
				happened = s.Complete(step, execution.Result{StartedAt: now}, now)
			case execution.Finish:
				happened = step.Event
			case execution.Wait:
				now = step.Until
				continue
			}
			// An engine appends it to the log first.
			s.Apply(protocol.Stamped{At: protocol.At(now), Event: happened})
		}
	}
	fmt.Println(s.Status, s.Values["execution_path"])
	// Output:
	// run ask
	// run answer
	// COMPLETED [ask answer]
}
