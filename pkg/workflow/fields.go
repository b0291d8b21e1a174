package workflow

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxSeconds bounds every time limit an author may set: a day.
const maxSeconds = 86400

// Fields reads the free-form metadata of a node, typed. Each reader returns the default when
// the key is absent or null, and reports a problem and returns the default when the value is
// not what it must be. Node types use it in their Check.
type Fields struct {
	nodeID string
	prefix string
	values map[string]any
	report func(Problem)
}

// NodeFields reads the metadata of a node.
func NodeFields(n Node, report func(Problem)) Fields {
	return Fields{nodeID: n.ID, prefix: "metadata.", values: n.Metadata, report: report}
}

// Has reports whether the key is there and not null.
func (f Fields) Has(key string) bool { return f.values[key] != nil }

// Blank reports whether the key is absent, null or an empty string.
func (f Fields) Blank(key string) bool {
	v := f.values[key]
	return v == nil || v == ""
}

// Invalid reports that the value under key is wrong.
func (f Fields) Invalid(key, format string, args ...any) {
	f.report(NewProblem(ProblemMetadataInvalid, f.nodeID, f.prefix+key, format, args...))
}

// Missing reports that the value under key should be there.
func (f Fields) Missing(key, format string, args ...any) {
	f.report(NewProblem(ProblemMetadataMissing, f.nodeID, f.prefix+key, format, args...))
}

func (f Fields) wrongType(key, want string) {
	f.Invalid(key, "%s must be %s, not %s", key, want, kindOf(f.values[key]))
}

// Text reads a string.
func (f Fields) Text(key, def string) string {
	switch v := f.values[key].(type) {
	case nil:
		return def
	case string:
		return v
	}
	f.wrongType(key, "a string")
	return def
}

// Name reads a non-empty string.
func (f Fields) Name(key, def string) string {
	if v, ok := f.values[key].(string); ok && v == "" {
		f.Invalid(key, "%s must not be empty; leave it out for the default", key)
		return def
	}
	return f.Text(key, def)
}

// OneOf reads a string that must be one of the allowed ones; case does not matter.
func (f Fields) OneOf(key, def string, allowed ...string) string {
	v := f.Text(key, def)
	if v == def || slices.Contains(allowed, v) {
		return v
	}
	for _, a := range allowed {
		if strings.EqualFold(a, strings.TrimSpace(v)) {
			return a
		}
	}
	f.Invalid(key, "%s must be one of %s, not %s", key, strings.Join(allowed, ", "), quoted(v))
	return def
}

// Number reads a number between least and most.
func (f Fields) Number(key string, def, least, most float64) float64 {
	if !f.Has(key) {
		return def
	}
	n, ok := numberOf(f.values[key])
	if !ok {
		f.wrongType(key, "a number")
		return def
	}
	if n < least || n > most {
		f.Invalid(key, "%s must be between %s and %s, not %s", key, plain(least), plain(most), plain(n))
		return def
	}
	return n
}

// Integer reads a whole number between least and most.
func (f Fields) Integer(key string, def, least, most int) int {
	n := f.Number(key, float64(def), float64(least), float64(most))
	if n != math.Trunc(n) {
		f.Invalid(key, "%s must be a whole number, not %s", key, plain(n))
		return def
	}
	return int(n)
}

// Seconds reads a duration in seconds: more than 0, at most a day.
func (f Fields) Seconds(key string) time.Duration {
	if !f.Has(key) {
		return 0
	}
	n, ok := numberOf(f.values[key])
	if !ok {
		f.wrongType(key, "a number of seconds")
		return 0
	}
	if n <= 0 || n > maxSeconds {
		f.Invalid(key, "%s must be more than 0 and at most %d seconds, not %s", key, maxSeconds, plain(n))
		return 0
	}
	return max(time.Duration(n*float64(time.Second)), 1)
}

// Bool reads true or false.
func (f Fields) Bool(key string, def bool) bool {
	switch v := f.values[key].(type) {
	case nil:
		return def
	case bool:
		return v
	}
	f.wrongType(key, "true or false")
	return def
}

// Texts reads an array of non-empty strings.
func (f Fields) Texts(key string, def []string) []string {
	var list []string
	switch v := f.values[key].(type) {
	case nil:
		return def
	case []string:
		list = v
	case []any:
		list = make([]string, 0, len(v))
		for i, item := range v {
			s, ok := item.(string)
			if !ok {
				f.Invalid(fmt.Sprintf("%s[%d]", key, i), "%s must be an array of strings, but item %d is %s", key, i, kindOf(item))
				return def
			}
			list = append(list, s)
		}
	default:
		f.wrongType(key, "an array of strings")
		return def
	}
	if i := slices.Index(list, ""); i >= 0 {
		f.Invalid(fmt.Sprintf("%s[%d]", key, i), "%s must not hold an empty string", key)
		return def
	}
	return list
}

// Object reads an object; its own fields are read through the result. ok is false when there is none.
func (f Fields) Object(key string) (inner Fields, ok bool) {
	v, isObject := object(f.values[key])
	if !isObject {
		if f.Has(key) {
			f.wrongType(key, "an object")
		}
		return Fields{}, false
	}
	return Fields{nodeID: f.nodeID, prefix: f.prefix + key + ".", values: v, report: f.report}, true
}

// Objects reads an array of objects.
func (f Fields) Objects(key string) []Fields {
	var list []any
	switch v := f.values[key].(type) {
	case nil:
		return nil
	case []any:
		list = v
	case []map[string]any:
		list = items(v)
	default:
		f.wrongType(key, "an array of objects")
		return nil
	}
	all := make([]Fields, 0, len(list))
	for i, item := range list {
		v, ok := object(item)
		if !ok {
			f.Invalid(fmt.Sprintf("%s[%d]", key, i), "%s must be an array of objects, but item %d is %s", key, i, kindOf(item))
			continue
		}
		all = append(all, Fields{
			nodeID: f.nodeID, prefix: f.prefix + key + "[" + strconv.Itoa(i) + "].", values: v, report: f.report,
		})
	}
	return all
}

func numberOf(v any) (float64, bool) {
	switch v := v.(type) {
	case json.Number:
		n, err := v.Float64()
		return n, err == nil
	case float64:
		return v, !math.IsNaN(v)
	case int:
		return float64(v), true
	case int64:
		return float64(v), true
	}
	return 0, false
}

func plain(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }

// kindOf names a value's JSON type for a person.
func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case string:
		return "a string"
	case bool:
		return "true or false"
	case []any, []string, []map[string]any:
		return "an array"
	case map[string]any, Values:
		return "an object"
	}
	if _, ok := numberOf(v); ok {
		return "a number"
	}
	return fmt.Sprintf("%T", v)
}
