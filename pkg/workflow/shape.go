package workflow

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Detail is one shape error, in the form that clients of Phase 1 know from FastAPI. Loc lacks
// the leading "body"; the type names are pydantic's.
type Detail struct {
	Type  string `json:"type"`
	Loc   []any  `json:"loc"` // keys (string) and positions (int)
	Msg   string `json:"msg"`
	Input any    `json:"input"`
}

// ShapeError is a document that is not a workflow at all: bad JSON, wrong types, references to
// nothing. Everything that is wrong is listed.
type ShapeError struct {
	Details []Detail

	problems []Problem // same length as Details
}

func (e *ShapeError) Error() string {
	first := e.Details[0]
	msg := fmt.Sprintf("workflow document: %s: %s", locText(first.Loc), first.Msg)
	if n := len(e.Details) - 1; n > 0 {
		msg += fmt.Sprintf(" (and %d more)", n)
	}
	return msg
}

// Problems returns the same errors as problems, one for each of Details.
func (e *ShapeError) Problems() []Problem { return append([]Problem(nil), e.problems...) }

// locText writes a location as edges[0].to.
func locText(loc []any) string {
	var b strings.Builder
	for _, step := range loc {
		switch step := step.(type) {
		case int:
			if b.Len() == 0 {
				return "offset " + strconv.Itoa(step)
			}
			b.WriteString("[" + strconv.Itoa(step) + "]")
		case string:
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString(step)
		}
	}
	if b.Len() == 0 {
		return "document"
	}
	return b.String()
}

// shapeErrors collects details up to maxProblems.
type shapeErrors struct {
	details  []Detail
	problems []Problem
	more     int
}

func (e *shapeErrors) add(d Detail, problemType, nodeID, message string) {
	if len(e.details) >= maxProblems {
		e.more++
		return
	}
	field := ""
	if len(d.Loc) > 0 {
		field = locText(d.Loc)
	} else {
		d.Loc = []any{} // never null in JSON
	}
	e.details = append(e.details, d)
	e.problems = append(e.problems, NewProblem(problemType, nodeID, field, "%s", message))
}

func (e *shapeErrors) wrong(typ, msg string, input any, loc ...any) {
	e.add(Detail{Type: typ, Loc: loc, Msg: msg, Input: input}, ProblemSpecInvalid, "", msg)
}

func (e *shapeErrors) missing(input map[string]any, loc ...any) {
	e.wrong("missing", "Field required", input, loc...)
}

// dangling reports a reference to nothing. The problem's field is where clients look for it:
// edges[0].to, whichever of several targets it is and whichever alias the author wrote.
func (e *shapeErrors) dangling(problemType, field, id string, loc ...any) {
	message := namesNoNode(field, id)
	e.add(Detail{Type: "value_error", Loc: loc, Msg: "Value error, " + message, Input: shorten(id)}, problemType, "", message)
	if len(e.problems) > 0 && e.more == 0 {
		e.problems[len(e.problems)-1].Field = field
	}
}

func namesNoNode(field, id string) string {
	return fmt.Sprintf("%s names no node: %s", field, quoted(id))
}

func (e *shapeErrors) err() error {
	if len(e.details) == 0 {
		return nil
	}
	if e.more > 0 {
		msg := fmt.Sprintf("Value error, and %d more errors; fix these %d first", e.more, maxProblems)
		e.details = append(e.details, Detail{Type: "value_error", Loc: []any{}, Msg: msg})
		e.problems = append(e.problems, NewProblem(ProblemSpecInvalid, "", "", "%s", msg))
	}
	return &ShapeError{Details: e.details, problems: e.problems}
}

// text reads a string that may be absent or null.
func (e *shapeErrors) text(obj map[string]any, key string, loc ...any) string {
	switch v := obj[key].(type) {
	case nil:
		return ""
	case string:
		return v
	default:
		e.wrong("string_type", "Input should be a valid string", v, append(loc, key)...)
		return ""
	}
}

// required reads a string that must be there and not be empty.
func (e *shapeErrors) required(obj map[string]any, key string, loc ...any) (string, bool) {
	v, ok := obj[key]
	if !ok {
		e.missing(obj, append(loc, key)...)
		return "", false
	}
	s, ok := v.(string)
	switch {
	case !ok:
		e.wrong("string_type", "Input should be a valid string", v, append(loc, key)...)
		return "", false
	case s == "":
		e.wrong("string_too_short", "String should have at least 1 character", v, append(loc, key)...)
		return "", false
	}
	return s, true
}

// array reads a list that may be absent or null, of at most limit items.
func (e *shapeErrors) array(obj map[string]any, key string, limit int) []any {
	v := obj[key]
	if v == nil {
		return nil
	}
	list, ok := v.([]any)
	if !ok {
		e.wrong("list_type", "Input should be a valid list", v, key)
		return nil
	}
	if len(list) > limit {
		e.wrong("value_error", fmt.Sprintf("Value error, at most %d %s are allowed, not %d", limit, key, len(list)), nil, key)
		return nil
	}
	return list
}

// model reads a nested object.
func (e *shapeErrors) model(v any, loc ...any) (map[string]any, bool) {
	obj, ok := v.(map[string]any)
	if !ok {
		e.wrong("model_attributes_type", "Input should be a valid dictionary or object to extract fields from", v, loc...)
	}
	return obj, ok
}

// dict reads a free-form object that may be absent or null.
func (e *shapeErrors) dict(obj map[string]any, key string, loc ...any) map[string]any {
	v := obj[key]
	if v == nil {
		return map[string]any{}
	}
	dict, ok := v.(map[string]any)
	if !ok {
		e.wrong("dict_type", "Input should be a valid dictionary", v, append(loc, key)...)
		return map[string]any{}
	}
	return dict
}

// laxNumber takes a number in quotes for a number: Phase 1 did, so stored files may hold one.
func laxNumber(v any) (json.Number, bool) {
	switch v := v.(type) {
	case json.Number:
		return v, true
	case string:
		n := strings.TrimSpace(v)
		return json.Number(n), isNumber(n)
	}
	return "", false
}

// number reads a float that may be absent or null; 0 then.
func (e *shapeErrors) number(obj map[string]any, key string, loc ...any) float64 {
	v := obj[key]
	if v == nil {
		return 0
	}
	n, ok := laxNumber(v)
	if !ok {
		e.wrong("float_type", "Input should be a valid number", v, append(loc, key)...)
		return 0
	}
	f, err := n.Float64()
	if err != nil {
		e.wrong("finite_number", "Input should be a finite number", v, append(loc, key)...)
		return 0
	}
	return f
}

// integer reads a whole number of at least 1 that may be absent or null; 0 then.
func (e *shapeErrors) integer(obj map[string]any, key string, most int, loc ...any) int {
	v := obj[key]
	if v == nil {
		return 0
	}
	n, ok := laxNumber(v)
	if !ok {
		e.wrong("int_type", "Input should be a valid integer", v, append(loc, key)...)
		return 0
	}
	f, err := n.Float64()
	switch {
	case err != nil:
		e.wrong("finite_number", "Input should be a finite number", v, append(loc, key)...)
	case f != float64(int64(f)):
		e.wrong("int_from_float", "Input should be a valid integer, got a number with a fractional part", v, append(loc, key)...)
	case f < 1:
		e.wrong("greater_than_equal", "Input should be greater than or equal to 1", v, append(loc, key)...)
	case f > float64(most):
		e.wrong("less_than_equal", fmt.Sprintf("Input should be less than or equal to %d", most), v, append(loc, key)...)
	default:
		return int(f)
	}
	return 0
}
