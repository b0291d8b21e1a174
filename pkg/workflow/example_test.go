package workflow_test

import (
	"errors"
	"fmt"
	"strings"

	"github.com/agentflow/agentflow/pkg/workflow"
)

const support = `{
  "start_node": "ask",
  "nodes": [
    {"id": "ask",     "type": "input"},
    {"id": "sort",    "type": "router", "metadata": {"routes": [
      {"intent": "billing", "keywords": ["invoice", "refund"]},
      {"intent": "tech",    "keywords": ["error", "crash"]}]}},
    {"id": "billing", "type": "llm", "metadata": {"provider": "echo", "prompt_template": "A billing question: {user_input}"}},
    {"id": "tech",    "type": "llm", "metadata": {"provider": "echo", "prompt_template": "A technical question: {user_input}"}}
  ],
  "edges": [
    {"from": "ask", "to": "sort"},
    {"from": "sort", "to": ["billing", "tech"]}
  ]
}`

func ExampleCompile() {
	spec, err := workflow.Parse([]byte(support))
	if err != nil {
		fmt.Println(err)
		return
	}
	plan, err := workflow.Compile(spec)
	if err != nil {
		fmt.Println(err)
		return
	}
	state := workflow.NewValues(workflow.Values{"user_input": "My refund is late"})
	i, _ := plan.NodeIndex("sort")
	intent, err := plan.Nodes[i].Router.Decide(state)
	if err != nil {
		fmt.Println(err)
		return
	}
	taken, err := plan.Taken(i, workflow.Outcome{Intent: intent, HasIntent: true}, state)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, e := range taken {
		fmt.Println(intent, "->", plan.Nodes[plan.Edges[e].To].ID)
	}
	// Output: billing -> billing
}

func ExampleParse() {
	_, err := workflow.Parse([]byte(`{"nodes": [{"id": "a", "type": "robot"}], "edges": [{"from": "a", "to": "b"}]}`))
	var shape *workflow.ShapeError
	if errors.As(err, &shape) {
		for _, d := range shape.Details {
			fmt.Println(d.Type, d.Loc)
		}
	}
	// Output:
	// literal_error [nodes 0 type]
	// missing [start_node]
	// value_error [edges 0 to]
}

func ExampleValidate() {
	spec, err := workflow.Parse([]byte(`{
	  "start_node": "a",
	  "nodes": [{"id": "a", "type": "llm"}, {"id": "b", "type": "input"}],
	  "edges": [{"from": "a", "to": "end", "condition": "tokens_used < 10 and true"}]
	}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	report := workflow.Validate(spec, workflow.Known{})
	fmt.Println(report.Valid)
	for _, p := range report.Errors {
		fmt.Println(p.Error())
	}
	// Output:
	// false
	// E014 node a, metadata.prompt: an llm node needs a prompt, or a prompt_template such as "Answer briefly: {user_input}"
	// E003 node a, edges[0].condition: the condition "tokens_used < 10 and true" cannot be used: CEL writes && for and
	// E013 node b: node "b" never runs: no path leads to it from start_node "a"; add an edge or remove the node
}

func ExampleReduce() {
	state := workflow.NewValues(nil)
	state = workflow.Reduce(state, workflow.Values{"text_result": "first", "cost": 0.1, "score": 7})
	state = workflow.Reduce(state, workflow.Values{"text_result": "second", "cost": 0.2})
	fmt.Println(state["text_result"], state["cost"], state["outputs"])
	// Output: first 0.3 map[score:7]
}

func ExampleTemplate_Render() {
	t := workflow.CompileTemplate(`Answer {user.name} with { "valid": true } and {{braces}}; {unknown} stays`)
	text, err := t.Render(workflow.Values{"user": map[string]any{"name": "Ann"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(text)
	// Output: Answer Ann with { "valid": true } and {braces}; {unknown} stays
}

func ExampleTemplate_RenderFunc() {
	t := workflow.CompileTemplate("/users/{id}/orders")
	path, err := t.RenderFunc(workflow.Values{"id": "a/b"}, func(s string) string {
		return strings.ReplaceAll(s, "/", "%2F")
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(path)
	// Output: /users/a%2Fb/orders
}

func ExampleCache() {
	cache := workflow.NewCache(100)
	doc := []byte(support)
	for range 2 {
		plan, err := cache.Plan(workflow.Hash(doc), func() ([]byte, error) {
			fmt.Println("loaded")
			return doc, nil
		})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(len(plan.Nodes), "nodes")
	}
	// Output:
	// loaded
	// 4 nodes
	// 4 nodes
}
