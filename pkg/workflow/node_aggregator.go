package workflow

import (
	"encoding/json"
	"fmt"
	"strings"
)

func init() {
	RegisterNodeType(NodeType{
		Name:        "aggregator",
		Description: "Combines the results of other nodes into one.",
		OutputKey:   "final_output",
		Pure:        always,
		compile: func(n *PlanNode, report func(Problem)) {
			n.Aggregator = newAggregator(n, report)
		},
	})
}

// Aggregator is the compiled form of an aggregator node. It is immutable and safe for concurrent use.
type Aggregator struct {
	strategy  string
	sources   []string
	priority  []string
	template  *Template
	separator string
	selectKey string
	outputKey string
	metadata  bool
}

func newAggregator(n *PlanNode, report func(Problem)) *Aggregator {
	f := NodeFields(n.Node, report)
	a := &Aggregator{
		strategy:  f.OneOf("strategy", "merge", "merge", "priority", "template", "concat", "select"),
		sources:   f.Texts("source_keys", []string{"text_result", "image_result", "db_result"}),
		separator: f.Text("separator", "\n\n"),
		selectKey: f.Name("select_key", "text_result"),
		outputKey: n.OutputKey,
		metadata:  f.Bool("include_metadata", true),
	}
	a.priority = f.Texts("priority_order", a.sources)
	text := f.Text("template", "")
	if a.strategy == "template" && text == "" {
		f.Missing("template", "an aggregator with strategy template needs a template")
	}
	a.template = CompileTemplate(text)
	return a
}

// Run returns the node's delta. With include_metadata the result stands beside the path, tokens
// and cost of the execution as they are before this node.
func (a *Aggregator) Run(v Values) (Values, error) {
	result, err := a.combine(v)
	if err != nil {
		return nil, fmt.Errorf("aggregate by %s: %w", a.strategy, err)
	}
	if a.metadata {
		result = map[string]any{
			"result":         result,
			"execution_path": orElse(v["execution_path"], []any{}),
			"tokens_used":    orElse(v["tokens_used"], json.Number("0")),
			"cost":           orElse(v["cost"], json.Number("0.0")),
		}
	}
	return Values{a.outputKey: result}, nil
}

func orElse(v, def any) any {
	if v == nil {
		return def
	}
	return v
}

func (a *Aggregator) combine(v Values) (any, error) {
	switch a.strategy {
	case "priority":
		for _, key := range a.priority {
			if value, _ := v.Read(key); !Empty(value) {
				return value, nil
			}
		}
		return nil, nil //nolint:nilnil // null is the result when every key is empty
	case "template":
		return a.template.Render(v)
	case "concat":
		return a.concat(v)
	case "select":
		value, _ := v.Read(a.selectKey)
		return value, nil
	}
	merged := make(map[string]any, len(a.sources))
	for _, key := range a.sources {
		if value, _ := v.Read(key); !Empty(value) {
			merged[key] = value
		}
	}
	return merged, nil
}

func (a *Aggregator) concat(v Values) (string, error) {
	var out strings.Builder
	for _, key := range a.sources {
		value, _ := v.Read(key)
		if Empty(value) {
			continue
		}
		text, err := Text(value)
		if err != nil {
			return "", fmt.Errorf("%s: %w", quoted(key), err)
		}
		if out.Len() > 0 {
			text = a.separator + text
		}
		if out.Len()+len(text) > maxRendered {
			return "", fmt.Errorf("the text grows beyond %d bytes at %s", maxRendered, quoted(key))
		}
		out.WriteString(text)
	}
	return out.String(), nil
}
