// Package node holds what each node type does when it runs: one file per type. A type reads its
// node's metadata and the state, perhaps asks a source, and returns a delta. It knows nothing of
// events, retries, deadlines or queues: those are the engine's.
package node

import (
	"context"
	"fmt"
	"time"

	"github.com/agentflow/agentflow/pkg/execution"
	"github.com/agentflow/agentflow/pkg/workflow"
	"github.com/agentflow/agentflow/services/executor/internal/source"
)

// Input is what a node gets to run.
type Input struct {
	Plan   *workflow.Plan
	Node   *workflow.PlanNode
	Values workflow.Values // never changed
	Caller source.Caller
}

// Outside is the world as nodes reach it.
type Outside interface {
	LLM(ctx context.Context, c source.Caller, s workflow.Source, r source.LLMRequest) (source.LLMResponse, error)
	Image(ctx context.Context, c source.Caller, s workflow.Source, r source.ImageRequest) (source.Image, error)
	Query(ctx context.Context, c source.Caller, s workflow.Source, r source.QueryRequest) ([]map[string]any, error)
	Call(ctx context.Context, c source.Caller, s workflow.Source, r source.HTTPRequest) (source.HTTPResponse, error)
}

var _ Outside = (*source.Sources)(nil)

// Runner runs nodes of one type. It must be safe for concurrent use. Beside an error its result tells what was spent.
type Runner interface {
	Run(ctx context.Context, out Outside, in Input) (execution.Result, error)
}

// estimator is a Runner that can say beforehand how many LLM tokens a run will take.
type estimator interface {
	Estimate(in Input) int
}

var runners = map[string]Runner{}

// register adds the runner of a node type; each file of this package calls it from init.
func register(name string, r Runner) {
	if _, taken := runners[name]; taken {
		panic("node: type " + name + " is registered twice")
	}
	runners[name] = r
}

// Run runs one node.
func Run(ctx context.Context, out Outside, in Input) (execution.Result, error) {
	r, ok := runners[in.Node.Type]
	if !ok {
		return execution.Result{}, fmt.Errorf("node type %q cannot be run by this executor", in.Node.Type)
	}
	return r.Run(ctx, out, in)
}

// Estimate is how many LLM tokens a run will take, about; 0 for types that use none.
func Estimate(in Input) int {
	if e, ok := runners[in.Node.Type].(estimator); ok {
		return e.Estimate(in)
	}
	return 0
}

// Types lists the node types that can be run.
func Types() []string {
	names := make([]string, 0, len(runners))
	for name := range runners {
		names = append(names, name)
	}
	return names
}

// Source is the source a node uses: the one it names, else one made of its own provider, model
// and api_key_env, else the platform's default of that kind.
func Source(in Input, kind string) (workflow.Source, error) {
	if in.Node.SourceID != "" {
		s, ok := in.Plan.Spec.Source(in.Node.SourceID)
		if !ok {
			return workflow.Source{}, &source.Error{
				Class: source.ClassInvalid, Source: in.Node.SourceID, Message: "the source is neither in the workflow nor kept by the tenant",
			}
		}
		return s, nil
	}
	config := map[string]any{}
	for _, key := range []string{"provider", "model", "model_name", "api_key_env", "base_url"} {
		if v, ok := in.Node.Metadata[key]; ok && v != nil {
			config[key] = v
		}
	}
	return workflow.Source{ID: "default-" + kind, Kind: kind, Config: config}, nil
}

func text(m map[string]any, key string) string {
	s, _ := m[key].(string)
	return s
}

func integer(m map[string]any, key string) int {
	f := float(m, key)
	if f == nil {
		return 0
	}
	return int(*f)
}

func float(m map[string]any, key string) *float64 {
	n, ok := m[key].(interface{ Float64() (float64, error) })
	if !ok {
		return nil
	}
	f, err := n.Float64()
	if err != nil {
		return nil
	}
	return &f
}

func seconds(m map[string]any, key string) time.Duration {
	f := float(m, key)
	if f == nil || *f <= 0 {
		return 0
	}
	return time.Duration(*f * float64(time.Second))
}
