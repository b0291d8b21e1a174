package node

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/execution"
	"github.com/agentflow/agentflow/pkg/workflow"
	"github.com/agentflow/agentflow/services/executor/internal/source"
)

// ── What adding a node type takes: from here … ──

func init() {
	workflow.RegisterNodeType(workflow.NodeType{
		Name: "shell-free", Description: "Runs a pipeline of words that no shell ever sees.", OutputKey: "printed",
		Check: func(n workflow.Node, report func(workflow.Problem)) {
			f := workflow.NodeFields(n, report)
			for _, word := range f.Texts("pipeline", nil) {
				if words[word] == nil {
					f.Invalid("pipeline", "%q is not a word that shell-free knows", word)
				}
			}
		},
	})
	register("shell-free", shellFree{})
}

type shellFree struct{}

var words = map[string]func(string) string{"upper": strings.ToUpper, "trim": strings.TrimSpace, "count": func(s string) string { return strconv.Itoa(len(s)) }}

func (shellFree) Run(_ context.Context, _ Outside, in Input) (execution.Result, error) {
	input, _ := in.Values["user_input"].(string)
	pipeline, _ := in.Node.Metadata["pipeline"].([]any)
	for _, word := range pipeline {
		input = words[word.(string)](input)
	}
	return execution.Result{Delta: workflow.Values{in.Node.OutputKey: input}}, nil
}

var _ Runner = shellFree{}

// ── … to here. ──

// planOf compiles a workflow of one node.
func planOf(t *testing.T, typ, metadata string) (*workflow.Plan, workflow.Report) {
	t.Helper()
	spec, err := workflow.Parse([]byte(`{"start_node":"n","nodes":[{"id":"n","type":"` + typ + `","metadata":` + metadata + `}],` +
		`"sources":[{"id":"model","kind":"llm","config":{"provider":"echo","model":"m"}}]}`))
	require.NoError(t, err)
	plan, report := workflow.Check(spec, workflow.Known{})
	return plan, report
}

func run(t *testing.T, out Outside, typ, metadata, input string) (execution.Result, error) {
	t.Helper()
	plan, report := planOf(t, typ, metadata)
	require.True(t, report.Valid, "%v", report.Errors)
	return Run(t.Context(), out, Input{Plan: plan, Node: &plan.Nodes[0], Values: workflow.NewValues(workflow.Values{"user_input": input})})
}

func TestANodeTypeIsOneFile(t *testing.T) {
	require.Contains(t, Types(), "shell-free")
	res, err := run(t, nil, "shell-free", `{"pipeline":["trim","upper"]}`, "  hello; rm -rf / ")
	require.NoError(t, err)
	require.Equal(t, workflow.Values{"printed": "HELLO; RM -RF /"}, res.Delta)
	res, err = run(t, nil, "shell-free", `{"pipeline":["count"],"output_key":"length"}`, "four")
	require.NoError(t, err)
	require.Equal(t, workflow.Values{"length": "4"}, res.Delta)

	_, report := planOf(t, "shell-free", `{"pipeline":["sh -c"]}`)
	require.Len(t, report.Errors, 1)
	require.Equal(t, "metadata.pipeline", report.Errors[0].Field)
	require.Panics(t, func() { register("shell-free", shellFree{}) })
}

// Every type that a workflow may name can be run.
func TestEveryTypeHasARunner(t *testing.T) {
	for _, typ := range workflow.NodeTypes() {
		require.Contains(t, Types(), typ.Name)
	}
	require.Len(t, Types(), len(workflow.NodeTypes()))
}

// stingy answers every question with an answer that was paid for and did not do.
type stingy struct {
	Outside
	err error
}

func (s stingy) LLM(context.Context, source.Caller, workflow.Source, source.LLMRequest) (source.LLMResponse, error) {
	return source.LLMResponse{Usage: source.Usage{InputTokens: 30, OutputTokens: 12}, Cost: source.Cost{Amount: "0.25"}}, s.err
}

// What a model took is told even when its answer is an error: a queue's tokens are settled by it.
func TestAFailedQuestionWasPaidFor(t *testing.T) {
	refused := errors.New("the model answered twice without meeting response_format")
	for typ, metadata := range map[string]string{
		"llm":    `{"source_id":"model","prompt":"x"}`,
		"router": `{"source_id":"model","strategy":"llm","routes":[{"intent":"a"},{"intent":"b"}]}`,
	} {
		res, err := run(t, stingy{err: refused}, typ, metadata, "hello")
		require.ErrorIs(t, err, refused, typ)
		require.EqualValues(t, 42, res.Tokens, typ)
		require.Equal(t, "0.25", res.Cost, typ)
		require.Nil(t, res.Intent, typ)
	}
	res, err := run(t, stingy{}, "router", `{"source_id":"model","strategy":"llm","routes":[{"intent":"a"}]}`, "hello")
	require.NoError(t, err)
	require.Equal(t, json.Number("42"), res.Delta["tokens_used"])
}
