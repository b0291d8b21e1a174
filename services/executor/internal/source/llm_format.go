package source

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// formatCheck tells whether an answer is the JSON that was asked for.
type formatCheck struct{ schema *jsonschema.Schema }

func newFormatCheck(f Format) (*formatCheck, error) {
	if !f.JSON || f.Schema == nil {
		return &formatCheck{}, nil
	}
	raw, err := json.Marshal(f.Schema)
	if err != nil {
		return nil, fmt.Errorf("response_format: the schema is not JSON: %w", err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("response_format: the schema is not JSON: %w", err)
	}
	compiler := jsonschema.NewCompiler()
	// A schema may refer to itself and to nothing else: a reference must not fetch or read a file.
	compiler.UseLoader(noLoader{})
	if err := compiler.AddResource("mem:///schema.json", doc); err != nil {
		return nil, fmt.Errorf("response_format: %w", err)
	}
	schema, err := compiler.Compile("mem:///schema.json")
	if err != nil {
		return nil, fmt.Errorf("response_format: the schema does not compile: %s", excerpt(err.Error()))
	}
	return &formatCheck{schema: schema}, nil
}

type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("a schema may not refer to %s", url)
}

// read finds the JSON value of an answer, and its text without the fence that models put around it.
func (f *formatCheck) read(text string) (value any, plain string, problem error) {
	plain = unfence(text)
	value, err := decodeJSON(plain)
	if err != nil {
		return nil, text, fmt.Errorf("it is not valid JSON: %s", err.Error())
	}
	if f.schema == nil {
		return value, plain, nil
	}
	if err := f.schema.Validate(value); err != nil {
		var invalid *jsonschema.ValidationError
		if errors.As(err, &invalid) {
			return nil, text, fmt.Errorf("it does not meet the schema: %s", excerpt(leaves(invalid)))
		}
		return nil, text, err
	}
	return value, plain, nil
}

// leaves is the actionable part of a validation error, one finding per line of the tree.
func leaves(e *jsonschema.ValidationError) string {
	text := e.Error()
	if _, rest, ok := strings.Cut(text, "\n"); ok {
		return rest
	}
	return text
}

// unfence takes the answer out of a Markdown code fence.
func unfence(text string) string {
	text = strings.TrimSpace(text)
	if !strings.HasPrefix(text, "```") || !strings.HasSuffix(text, "```") || len(text) < 6 {
		return text
	}
	body := strings.TrimSuffix(text, "```")
	_, body, ok := strings.Cut(body, "\n")
	if !ok {
		return text
	}
	return strings.TrimSpace(body)
}

func repairPrompt(problem error) string {
	return "Your answer could not be used: " + problem.Error() +
		"\nAnswer again with the corrected JSON value alone, without explanation and without a code fence."
}

// formatInstruction goes into the system prompt of providers and servers that have no parameter
// for a schema.
func formatInstruction(f Format) string {
	if !f.JSON {
		return ""
	}
	if f.Schema == nil {
		return "Answer with one valid JSON value alone, without explanation and without a code fence."
	}
	raw, err := json.Marshal(f.Schema)
	if err != nil {
		return ""
	}
	return "Answer with one JSON value alone, without explanation and without a code fence. It must meet this JSON Schema:\n" + string(raw)
}

func joinPrompts(parts ...string) string {
	var kept []string
	for _, p := range parts {
		if p != "" {
			kept = append(kept, p)
		}
	}
	return strings.Join(kept, "\n\n")
}
