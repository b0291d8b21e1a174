package source

import (
	"errors"
	"fmt"

	"github.com/agentflow/agentflow/pkg/workflow"
)

// Bounds of a filled document: a short template can name a large value many times.
const (
	maxFilled = 4 << 20
	maxDepth  = 500
)

// fillJSON fills every string of a JSON value. A string that is one placeholder and nothing else
// becomes the value itself, with its type: {"n": "{count}"} sends a number. Values go in as
// decoded strings, so that none of them can end the string it stands in. Keys stay as they are.
func fillJSON(v any, values workflow.Values) (any, error) {
	f := filler{values: values}
	return f.fill(v, 0)
}

type filler struct {
	values workflow.Values
	size   int
}

func (f *filler) fill(v any, depth int) (any, error) {
	if depth > maxDepth {
		return nil, errors.New("nested too deeply")
	}
	switch v := v.(type) {
	case string:
		return f.text(v)
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, item := range v {
			filled, err := f.fill(item, depth+1)
			if err != nil {
				return nil, err
			}
			out[key] = filled
		}
		return out, nil
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			filled, err := f.fill(item, depth+1)
			if err != nil {
				return nil, err
			}
			out[i] = filled
		}
		return out, nil
	}
	return v, nil
}

func (f *filler) text(s string) (any, error) {
	template := workflow.CompileTemplate(s)
	if parts := template.Parts(); len(parts) == 1 && parts[0].Placeholder() {
		value, ok := parts[0].Value(f.values)
		if !ok {
			return s, nil
		}
		return value, f.count(weight(value, maxFilled))
	}
	text, err := template.Render(f.values)
	if err != nil {
		return nil, err
	}
	return text, f.count(len(text))
}

func (f *filler) count(n int) error {
	if f.size += n; f.size > maxFilled {
		return fmt.Errorf("the filled document is larger than %d bytes", maxFilled)
	}
	return nil
}

// weight is about how long a value is as JSON; it stops counting beyond limit.
func weight(v any, limit int) int {
	n := 8
	switch v := v.(type) {
	case string:
		n += len(v)
	case map[string]any:
		for key, item := range v {
			if n += len(key); n > limit {
				break
			}
			n += weight(item, limit-n)
		}
	case []any:
		for _, item := range v {
			if n > limit {
				break
			}
			n += weight(item, limit-n)
		}
	}
	return n
}
