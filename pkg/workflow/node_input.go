package workflow

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

func init() {
	RegisterNodeType(NodeType{
		Name:        "input",
		Description: "Takes the caller's input, transforms and validates it.",
		Pure:        always,
		compile:     func(n *PlanNode, report func(Problem)) { n.Input = newInput(n, report) },
	})
}

// Input is the compiled form of an input node.
type Input struct {
	nodeID     string
	inputKey   string
	outputKey  string
	transforms []string
	rules      inputRules
}

type inputRules struct {
	required  bool
	minLength int // None when not set
	maxLength int // None when not set
	fields    []string
}

var transforms = []string{"lowercase", "uppercase", "strip", "trim"}

func newInput(n *PlanNode, report func(Problem)) *Input {
	f := NodeFields(n.Node, report)
	in := &Input{nodeID: n.ID, inputKey: f.Name("input_key", "user_input"), rules: inputRules{minLength: None, maxLength: None}}
	if n.OutputKey == "" {
		n.OutputKey = in.inputKey
	}
	in.outputKey = n.OutputKey
	switch f.values["transform"].(type) {
	case nil:
	case string:
		if t := f.OneOf("transform", "", transforms...); t != "" {
			in.transforms = []string{t}
		}
	default:
		in.transforms = f.Texts("transform", nil)
		for _, t := range in.transforms {
			if !slices.Contains(transforms, t) {
				f.Invalid("transform", "transform must be one of %s, not %s", strings.Join(transforms, ", "), quoted(t))
			}
		}
	}
	rules, ok := f.Object("validate")
	if !ok {
		rules, ok = f.Object("validation")
	}
	if ok {
		in.rules.required = rules.Bool("required", false)
		in.rules.minLength = rules.Integer("min_length", None, 0, maxInteger)
		in.rules.maxLength = rules.Integer("max_length", None, 0, maxInteger)
		in.rules.fields = rules.Texts("required_fields", nil)
		if in.rules.maxLength != None && in.rules.minLength > in.rules.maxLength {
			rules.Invalid("min_length", "min_length %d is more than max_length %d: no input can pass", in.rules.minLength, in.rules.maxLength)
		}
	}
	return in
}

// RuleError is an input that broke a rule of its input node.
type RuleError struct {
	Rule    string // required, min_length, max_length or required_fields
	Key     string // the state key that was checked
	Message string
}

func (e *RuleError) Error() string {
	return fmt.Sprintf("input %s breaks the rule %s: %s", quoted(e.Key), e.Rule, e.Message)
}

// Run returns the node's delta, or a *RuleError. The rules see the input as transformed.
func (in *Input) Run(v Values) (Values, error) {
	value, _ := v.Read(in.inputKey)
	if s, ok := value.(string); ok {
		value = in.transform(s)
	}
	if err := in.check(value); err != nil {
		return nil, err
	}
	delta := Values{"metadata": map[string]any{"input_processed": true, "input_node_id": in.nodeID}}
	if in.outputKey == in.inputKey {
		return delta, nil
	}
	if in.outputKey == "metadata" {
		delta["metadata"] = mergeObjects(delta["metadata"], value)
		return delta, nil
	}
	delta[in.outputKey] = value
	return delta, nil
}

func (in *Input) transform(s string) string {
	for _, t := range in.transforms {
		switch t {
		case "lowercase":
			s = strings.ToLower(s)
		case "uppercase":
			s = strings.ToUpper(s)
		case "strip", "trim":
			s = strings.TrimSpace(s)
		}
	}
	return s
}

func (in *Input) check(value any) error {
	if in.rules.required && Empty(value) {
		return in.broken("required", "it is empty")
	}
	if in.rules.minLength != None || in.rules.maxLength != None {
		n, err := length(value)
		if err != nil {
			return err
		}
		if in.rules.minLength != None && n < in.rules.minLength {
			return in.broken("min_length", "its length is %d, the least is %d", n, in.rules.minLength)
		}
		if in.rules.maxLength != None && n > in.rules.maxLength {
			return in.broken("max_length", "its length is %d, the most is %d", n, in.rules.maxLength)
		}
	}
	if len(in.rules.fields) == 0 {
		return nil
	}
	fields, ok := object(value)
	if !ok {
		return in.broken("required_fields", "it must be an object with %s, not %s", strings.Join(in.rules.fields, ", "), kindOf(value))
	}
	var missing []string
	for _, name := range in.rules.fields {
		if Empty(fields[name]) {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return in.broken("required_fields", "missing or empty: %s", strings.Join(missing, ", "))
	}
	return nil
}

func (in *Input) broken(rule, format string, args ...any) error {
	return &RuleError{Rule: rule, Key: in.inputKey, Message: fmt.Sprintf(format, args...)}
}

// length counts the characters of a text, the items of an array or the keys of an object;
// any other value is as long as its JSON text, and null has length 0.
func length(v any) (int, error) {
	switch v := v.(type) {
	case nil:
		return 0, nil
	case []any:
		return len(v), nil
	case map[string]any:
		return len(v), nil
	case Values:
		return len(v), nil
	}
	text, err := Text(v)
	if err != nil {
		return 0, err
	}
	return utf8.RuneCountInString(text), nil
}
