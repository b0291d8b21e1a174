package workflow

import (
	"fmt"
	"strings"
)

// maxRendered bounds what a template may grow to: a short template can name a large value many times.
const maxRendered = 4 << 20

// Template is a compiled text with placeholders such as {name}, {a.b}, {a[b]} and {a[0]}.
// It is immutable and safe for concurrent use.
type Template struct {
	parts []TemplatePart
}

// TemplatePart is a piece of a template: literal text, or a placeholder.
type TemplatePart struct {
	Text string // literal text; for a placeholder, the placeholder as written
	Name string // the state key a placeholder starts from; "" for literal text

	path path
}

// CompileTemplate reads a template. Every text is a template: what is not a placeholder is
// text. The rules for braces:
//
//   - {path} around a key path is a placeholder.
//   - {{ gives {, and the }} that closes it gives }.
//   - Any other brace stays as it is. A } closes such a brace before it pairs up with the next
//     one, so that {"a": {"b": 1}} stays whole.
func CompileTemplate(s string) *Template {
	c := templateCompiler{source: s}
	for i := 0; i < len(s); {
		switch s[i] {
		case '{':
			i = c.open(i)
		case '}':
			i = c.close(i)
		default:
			next := strings.IndexAny(s[i:], "{}")
			if next < 0 {
				next = len(s) - i
			}
			c.literal = append(c.literal, s[i:i+next]...)
			i += next
		}
	}
	c.flush()
	return &Template{parts: c.parts}
}

// LiteralTemplate is a text that is used as it stands, braces and all.
func LiteralTemplate(s string) *Template {
	if s == "" {
		return &Template{}
	}
	return &Template{parts: []TemplatePart{{Text: s}}}
}

type templateCompiler struct {
	source  string
	literal []byte
	parts   []TemplatePart
	opened  []bool // the open braces that are text: true for {{, false for a plain one
}

func (c *templateCompiler) flush() {
	if len(c.literal) > 0 {
		c.parts = append(c.parts, TemplatePart{Text: string(c.literal)})
		c.literal = c.literal[:0]
	}
}

func (c *templateCompiler) open(i int) int {
	if i+1 < len(c.source) && c.source[i+1] == '{' {
		c.opened = append(c.opened, true)
		c.literal = append(c.literal, '{')
		return i + 2
	}
	// A path ends at the first byte that no path holds, so scanning it costs its own length only.
	end := i + 1
	for end < len(c.source) && (isKeyByte(c.source[end]) || c.source[end] == '.' || c.source[end] == '[' || c.source[end] == ']') {
		end++
	}
	if end < len(c.source) && c.source[end] == '}' {
		if p, ok := parsePath(c.source[i+1 : end]); ok {
			c.flush()
			c.parts = append(c.parts, TemplatePart{Text: c.source[i : end+1], Name: p[0], path: p})
			return end + 1
		}
	}
	c.opened = append(c.opened, false)
	c.literal = append(c.literal, c.source[i:end]...)
	return end
}

func (c *templateCompiler) close(i int) int {
	c.literal = append(c.literal, '}')
	double := i+1 < len(c.source) && c.source[i+1] == '}'
	top := len(c.opened) - 1
	switch {
	case top < 0 && double:
		return i + 2
	case top < 0:
		return i + 1
	case !c.opened[top]:
		c.opened = c.opened[:top]
		return i + 1
	case double:
		c.opened = c.opened[:top]
		return i + 2
	}
	return i + 1
}

// Render fills the template. Strings go in as they are, other values as compact JSON; a
// placeholder whose key is unknown stays as written. It fails when the result would pass
// 4 MiB or a value is not JSON.
func (t *Template) Render(v Values) (string, error) {
	return t.RenderFunc(v, nil)
}

// RenderFunc is Render with every inserted value passed through escape, so that an adapter
// can make values safe for the place they go to. The template's own text is not escaped.
func (t *Template) RenderFunc(v Values, escape func(string) string) (string, error) {
	if len(t.parts) == 1 && t.parts[0].path == nil {
		return t.parts[0].Text, nil
	}
	var out strings.Builder
	for _, part := range t.parts {
		text, err := part.render(v, escape)
		if err != nil {
			return "", err
		}
		if out.Len()+len(text) > maxRendered {
			return "", fmt.Errorf("render template: the text grows beyond %d bytes at %s", maxRendered, shorten(part.Text))
		}
		out.WriteString(text)
	}
	return out.String(), nil
}

func (p TemplatePart) render(v Values, escape func(string) string) (string, error) {
	if p.path == nil {
		return p.Text, nil
	}
	value, ok := v.follow(p.path)
	if !ok {
		return p.Text, nil
	}
	text, err := Text(value)
	if err != nil {
		return "", fmt.Errorf("render template: %s: %w", shorten(p.Text), err)
	}
	if escape != nil {
		text = escape(text)
	}
	return text, nil
}

// Value returns what a placeholder stands for, and whether its key is known. An adapter that
// binds parameters instead of splicing text asks for the value of each part.
func (p TemplatePart) Value(v Values) (any, bool) {
	if p.path == nil {
		return nil, false
	}
	return v.follow(p.path)
}

// Placeholder reports whether the part is a placeholder rather than text.
func (p TemplatePart) Placeholder() bool { return p.path != nil }

// Parts returns the pieces of the template in order.
func (t *Template) Parts() []TemplatePart {
	return append([]TemplatePart(nil), t.parts...)
}

// Names returns the state keys the template reads, each once, in order of appearance.
func (t *Template) Names() []string {
	var names []string
	seen := make(map[string]bool)
	for _, part := range t.parts {
		if part.path != nil && !seen[part.Name] {
			seen[part.Name] = true
			names = append(names, part.Name)
		}
	}
	return names
}

// FillJSON returns v with every string in it rendered as a template: an HTTP body, say.
// Strings stay strings; keys are left alone, and v is not changed.
func FillJSON(v any, values Values) (any, error) {
	f := filler{values: values}
	return f.fill(v, 0)
}

type filler struct {
	values Values
	size   int
}

func (f *filler) fill(v any, depth int) (any, error) {
	if depth > maxValueDepth {
		return nil, errTooDeep
	}
	switch v := v.(type) {
	case string:
		return f.fillString(v)
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, item := range v {
			filled, err := f.fill(item, depth+1)
			if err != nil {
				return nil, err
			}
			out[k] = filled
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

func (f *filler) fillString(s string) (string, error) {
	text, err := CompileTemplate(s).Render(f.values)
	if err != nil {
		return "", err
	}
	if f.size += len(text); f.size > maxRendered {
		return "", fmt.Errorf("render template: the document grows beyond %d bytes", maxRendered)
	}
	return text, nil
}
