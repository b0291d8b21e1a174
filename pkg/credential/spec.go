package credential

import (
	"fmt"

	"github.com/agentflow/agentflow/pkg/workflow"
)

// InSpec lists every place in a workflow that holds a secret: in the sources that it declares and in its nodes.
func InSpec(spec *workflow.Spec) []workflow.Problem {
	var list []workflow.Problem
	for i, src := range spec.Sources {
		for _, f := range Check(fmt.Sprintf("sources[%d].config", i), src.Config) {
			list = append(list, workflow.NewProblem(workflow.ProblemMetadataInvalid, "", f.Field, "%s %s", f.Field, f.Message))
		}
	}
	for _, n := range spec.Nodes {
		for _, f := range CheckNode("metadata", n.Metadata) {
			list = append(list, workflow.NewProblem(workflow.ProblemMetadataInvalid, n.ID, f.Field, "%s %s", f.Field, f.Message))
		}
	}
	return list
}
