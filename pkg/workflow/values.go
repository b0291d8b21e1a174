package workflow

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// Values is the graph state of an execution: one JSON object. Numbers that came from JSON are
// json.Number. Values is treated as immutable: Reduce makes a new one, so that a snapshot may
// be read by other goroutines while the execution goes on.
type Values map[string]any

// maxValueDepth bounds the nesting of state documents, for reading and for writing alike.
const maxValueDepth = 1000

// DecodeValues reads a JSON object. Numbers stay as they were written.
func DecodeValues(data []byte) (Values, error) {
	v, err := decodeAny(data, maxValueDepth)
	if err != nil {
		return nil, fmt.Errorf("decode values: %w", err)
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("decode values: want a JSON object, not %s", kindOf(v))
	}
	return m, nil
}

// NewValues is the state in which an execution starts: every well-known key at its zero,
// overlaid by the caller's initial state.
func NewValues(initial Values) Values {
	v := make(Values, len(initial)+16)
	v["user_input"] = ""
	v["intent"] = ""
	v["text_result"] = ""
	v["image_result"] = map[string]any{}
	v["db_result"] = []any{}
	v["api_result"] = map[string]any{}
	v["final_output"] = nil
	v["tokens_used"] = json.Number("0")
	v["cost"] = json.Number("0.0")
	v["metadata"] = map[string]any{}
	v["errors"] = []any{}
	v["execution_path"] = []any{}
	v["current_node"] = []any{}
	v["outputs"] = map[string]any{}
	for key, value := range initial {
		v[key] = value
	}
	return v
}

// Empty reports whether a value counts as absent: null, "", [] or {}. Zero and false are values.
func Empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case []any:
		return len(v) == 0
	case map[string]any:
		return len(v) == 0
	case Values:
		return len(v) == 0
	case []string:
		return len(v) == 0
	case []map[string]any:
		return len(v) == 0
	case map[string]string:
		return len(v) == 0
	}
	return false
}

// Lookup reads a key as every part of the language does: from the state, and from outputs
// when the state has nothing or something empty there. It reports whether the key is known;
// a known value may be empty.
func (v Values) Lookup(key string) (any, bool) {
	inState, known := v[key]
	if known && !Empty(inState) {
		return inState, true
	}
	if outputs, ok := object(v["outputs"]); ok {
		if out, ok := outputs[key]; ok && (!known || !Empty(out)) {
			return out, true
		}
	}
	return inState, known
}

// Read is Lookup for keys that authors write in metadata: a key that is not there as it
// stands is tried as a path such as order.items[0].
func (v Values) Read(key string) (any, bool) {
	if value, ok := v.Lookup(key); ok {
		return value, true
	}
	p, ok := parsePath(key)
	if !ok || len(p) == 1 {
		return nil, false
	}
	return v.follow(p)
}

// follow walks a path that starts at a key of the state.
func (v Values) follow(p path) (any, bool) {
	value, ok := v.Lookup(p[0])
	for _, step := range p[1:] {
		if !ok {
			return nil, false
		}
		value, ok = child(value, step)
	}
	return value, ok
}

func child(value any, step string) (any, bool) {
	if m, ok := object(value); ok {
		v, ok := m[step]
		return v, ok
	}
	list, ok := value.([]any)
	if !ok {
		return nil, false
	}
	i, err := strconv.Atoi(step)
	if err != nil || i < 0 || i >= len(list) {
		return nil, false
	}
	return list[i], true
}

func object(v any) (map[string]any, bool) {
	switch v := v.(type) {
	case map[string]any:
		return v, true
	case Values:
		return v, true
	}
	return nil, false
}

// Text is how a value reads inside a text: a string as it is, anything else as compact JSON.
func Text(v any) (string, error) {
	if s, ok := v.(string); ok {
		return s, nil
	}
	b, err := AppendJSON(nil, v)
	if err != nil {
		return "", err
	}
	return string(b), nil
}

// path is a key followed by the steps below it: a.b[0] is [a b 0].
type path []string

// parsePath reads a whole string as a key path. Keys hold letters, digits, _ and -.
func parsePath(s string) (path, bool) {
	end := keyEnd(s, 0)
	if end == 0 {
		return nil, false
	}
	p := path{s[:end]}
	for end < len(s) {
		start := end + 1
		switch s[end] {
		case '.':
			end = keyEnd(s, start)
			if end == start {
				return nil, false
			}
			p = append(p, s[start:end])
		case '[':
			end = keyEnd(s, start)
			if end == start || end >= len(s) || s[end] != ']' {
				return nil, false
			}
			p = append(p, s[start:end])
			end++
		default:
			return nil, false
		}
	}
	return p, true
}

// keyEnd returns where the key that starts at i ends.
func keyEnd(s string, i int) int {
	for i < len(s) && isKeyByte(s[i]) {
		i++
	}
	return i
}

// isKeyByte takes every byte of a non-ASCII character as a letter: keys may be in any script.
func isKeyByte(c byte) bool {
	return c == '_' || c == '-' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}
