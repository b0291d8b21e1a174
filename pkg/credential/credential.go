// Package credential finds secrets where none may stand: in the configuration of sources and in
// workflows, which name environment variables instead. It also masks them, for answers and the
// audit. It is pure, and errs on the side of refusing; what it found it never repeats.
package credential

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Mask stands in for a value that looks like a secret.
const Mask = "***MASKED***"

// Finding is one place that holds a secret.
type Finding struct {
	Field   string // path of the field: config.headers.Authorization
	Message string // what is wrong, and what to write instead
}

// Check lists every place in a value that holds a secret. field names the value itself.
func Check(field string, value any) []Finding {
	var list []Finding
	w := walker{found: func(path, message string) { list = append(list, Finding{Field: path, Message: message}) }}
	w.value(field, "", value, false, 0)
	slices.SortFunc(list, func(a, b Finding) int { return strings.Compare(a.Field, b.Field) })
	return list
}

// freeText are the fields of a node that people write prose into, where words such as "basic" and
// "password = …" mean nothing.
var freeText = set("prompt", "prompttemplate", "systemprompt", "template", "query", "querytemplate", "description")

// CheckNode is Check for the metadata of a node.
func CheckNode(field string, metadata map[string]any) []Finding {
	rest, list := make(map[string]any, len(metadata)), []Finding(nil)
	for key, value := range metadata {
		text, ok := value.(string)
		if !ok || !freeText[normal(key)] {
			rest[key] = value
			continue
		}
		if kind := keyKind(text); kind != "" {
			list = append(list, Finding{Field: join(field, key), Message: "holds what looks like " + kind + "; secrets are never stored"})
		}
	}
	list = append(list, Check(field, rest)...)
	slices.SortFunc(list, func(a, b Finding) int { return strings.Compare(a.Field, b.Field) })
	return list
}

// Masked is a copy of a value in which every secret is replaced by Mask.
func Masked(value any) any {
	w := walker{found: func(string, string) {}}
	return w.value("", "", value, false, 0)
}

// maxDepth bounds the walk; documents come decoded, with a limit of their own.
const maxDepth = 1000

type walker struct {
	found func(path, message string)
}

// value looks at one value under a name and returns it masked. secret says that the name around
// it, or the name itself, is that of a secret.
func (w walker) value(path, name string, v any, secret bool, depth int) any {
	if depth > maxDepth {
		return v
	}
	switch v := v.(type) {
	case map[string]any:
		return w.object(path, v, secret, depth)
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = w.value(fmt.Sprintf("%s[%d]", path, i), name, item, secret, depth+1)
		}
		return out
	case []string:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = w.value(fmt.Sprintf("%s[%d]", path, i), name, item, secret, depth+1)
		}
		return out
	case map[string]string:
		object := make(map[string]any, len(v))
		for key, item := range v {
			object[key] = item
		}
		return w.object(path, object, secret, depth)
	case string:
		return w.text(path, name, v, secret, depth)
	case json.Number:
		return w.number(path, name, v, secret)
	case float64, int, int64:
		return w.number(path, name, v, secret)
	}
	return v
}

func (w walker) object(path string, v map[string]any, secret bool, depth int) any {
	// {"name": "Authorization", "value": "Bearer …"}: the name is a value here.
	named := ""
	for _, key := range []string{"name", "key", "header"} {
		if s, ok := v[key].(string); ok && v["value"] != nil {
			named = s
		}
	}
	out := make(map[string]any, len(v))
	for key, item := range v {
		at := join(path, key)
		shown := key
		if kind := valueKind(key); kind != "" {
			w.found(join(path, Mask), "the name of this field looks like "+kind+"; secrets are never stored")
			at, shown = join(path, Mask), Mask
		}
		name := key
		switch {
		case named != "" && key == "value":
			name = named
		case named != "" && item == named:
			name = ""
		}
		// What the name of a field may say, a name that is itself a value of the document may not.
		inside := secret && (name != key || !environment(key) && !describes[normal(key)])
		out[shown] = w.value(at, name, item, inside || secretName(name), depth+1)
	}
	return out
}

func (w walker) number(path, name string, v any, secret bool) any {
	if !secret || !alwaysSecret[normal(name)] {
		return v
	}
	w.found(path, "holds a literal secret; "+instead(name, ""))
	return Mask
}

func (w walker) text(path, name, v string, secret bool, depth int) any {
	trimmed := strings.TrimSpace(v)
	switch {
	case trimmed == "":
		return v
	case trimmed == Mask:
		w.found(path, "is a mask from an answer, not a value; leave the field out or name an environment variable")
		return v
	case environment(name) && !secret:
		if kind := valueKind(trimmed); kind != "" {
			w.found(path, "must be the name of an environment variable, but holds what looks like "+kind)
			return Mask
		}
		if !variableName(trimmed) {
			w.found(path, "must be the name of an environment variable: letters, digits and '_', not beginning with a digit")
			return Mask
		}
		return v
	case placeholder(trimmed):
		return v
	}
	if kind := valueKind(trimmed); kind != "" {
		w.found(path, "holds what looks like "+kind+"; "+instead(name, kind))
		return Mask
	}
	if secret && !scheme.MatchString(trimmed) {
		w.found(path, "holds a literal secret; "+instead(name, ""))
		return Mask
	}
	// A document inside a string hides no better.
	if trimmed[0] == '{' || trimmed[0] == '[' {
		var inner any
		if json.Unmarshal([]byte(trimmed), &inner) == nil {
			before := 0
			probe := walker{found: func(at, message string) { before++; w.found(at, message) }}
			masked := probe.value(path, name, inner, false, depth+1)
			if before > 0 {
				raw, err := json.Marshal(masked)
				if err != nil {
					return Mask
				}
				return string(raw)
			}
		}
	}
	return v
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// instead says what to write in place of a secret.
func instead(name, kind string) string {
	const always = "secrets are never stored: keep it in an environment variable and write the variable's name as "
	n := normal(name)
	has := func(parts ...string) bool {
		for _, p := range parts {
			if strings.Contains(n, p) {
				return true
			}
		}
		return false
	}
	switch {
	case kind == urlPassword && !has("connection", "dsn", "database"):
		return "take user and password out of the URL; " + always + `"username_env" and "password_env" for an API, or "connection_string_env" for a database`
	case has("connection", "dsn", "database", "dburl", "connstr") || kind == keywordPassword || kind == urlPassword:
		return always + `"connection_string_env"`
	case has("password", "passwd", "passphrase") || n == "pwd" || n == "pass":
		return always + `"password_env"`
	case has("authorization", "bearer", "cookie"):
		return `leave the header out; ` + always + `"token_env" with "auth_type": "bearer", or "api_key_env" with "auth_type": "api_key"`
	case has("token", "jwt"):
		return always + `"token_env"`
	}
	return always + `"api_key_env"`
}
