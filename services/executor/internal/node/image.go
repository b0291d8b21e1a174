package node

import (
	"context"
	"encoding/json"

	"github.com/agentflow/agentflow/pkg/execution"
	"github.com/agentflow/agentflow/pkg/workflow"
	"github.com/agentflow/agentflow/services/executor/internal/source"
)

func init() { register("image", imageNode{}) }

// imageNode asks an image model for a picture.
type imageNode struct{}

func (imageNode) Run(ctx context.Context, out Outside, in Input) (execution.Result, error) {
	prompt, err := promptOf(in, "text_result", "user_input")
	if err != nil {
		return execution.Result{}, err
	}
	src, err := Source(in, "image")
	if err != nil {
		return execution.Result{}, err
	}
	m := in.Node.Metadata
	img, err := out.Image(ctx, in.Caller, src, source.ImageRequest{
		Prompt: prompt, Size: setting(m, src.Config, "size", "1024x1024"), Quality: setting(m, src.Config, "quality", "standard"),
		Style: setting(m, src.Config, "style", "vivid"),
	})
	if err != nil {
		return execution.Result{}, err
	}
	value, err := plain(img)
	if err != nil {
		return execution.Result{}, err
	}
	return spent(img.Usage, img.Cost, workflow.Values{in.Node.OutputKey: value}), nil
}

var _ Runner = imageNode{}

// setting takes what the node says, else the source, else the contract's default.
func setting(node, source map[string]any, key, fallback string) string {
	if s := text(node, key); s != "" {
		return s
	}
	if s := text(source, key); s != "" {
		return s
	}
	return fallback
}

// plain turns an adapter's answer into the JSON kinds that a state holds.
func plain(v any) (map[string]any, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return workflow.DecodeValues(raw)
}
