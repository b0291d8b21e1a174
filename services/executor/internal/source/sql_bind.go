package source

import (
	"slices"
	"strconv"
	"strings"

	"github.com/agentflow/agentflow/pkg/workflow"
)

// statement is SQL with parameters beside it. No value of a workflow is ever part of the text.
type statement struct {
	text string
	args []any // nil, string, bool, json.Number, or a list or object
}

// binder turns placeholders into parameters, token by token.
type binder struct {
	*call
	dialect dialect
	fill    bool           // {name} may come from the state: the text is a template
	named   map[string]any // params by name
	listed  []any          // params by position
	values  workflow.Values

	out  strings.Builder
	args []any
	next int // of listed, where positions are counted by question marks
}

// bind makes the statement of a request.
func (c *call) bind(req QueryRequest, d dialect) (statement, error) {
	text := req.Query
	if req.Template != "" {
		text = req.Template
	}
	if strings.TrimSpace(text) == "" {
		return statement{}, c.invalid("the query is empty")
	}
	b := binder{call: c, dialect: d, fill: req.Template != "", values: req.Values}
	params, err := fillJSON(req.Params, req.Values)
	if err != nil {
		return statement{}, c.invalid("params: %s", err.Error())
	}
	switch p := params.(type) {
	case nil:
	case map[string]any:
		b.named = p
	case []any:
		b.listed = p
		if d.numbered {
			b.args = slices.Clone(p)
		}
	default:
		return statement{}, c.invalid("params must be an object or an array")
	}
	tokens := lex(text, d)
	if tokens, err = c.single(tokens, d); err != nil {
		return statement{}, err
	}
	for i := range tokens {
		if err := b.token(tokens[i]); err != nil {
			return statement{}, err
		}
	}
	if !d.numbered && b.next < len(b.listed) {
		return statement{}, c.invalid("params has %d values, and the query %d question marks", len(b.listed), b.next)
	}
	return statement{text: b.out.String(), args: b.args}, nil
}

// readers are the words a statement may begin with. The transaction is read-only anyhow; this
// keeps out what is no transaction's business, such as COPY, SET, CALL and COMMIT.
var readers = []string{"select", "with", "values", "table", "show", "explain", "describe", "desc"}

// single refuses more than one statement and anything that does not read.
func (c *call) single(tokens []token, d dialect) ([]token, error) {
	firstWord, ended := "", false
	previous := ""
	for i, t := range tokens {
		if t.kind == tokenComment || t.kind == tokenCode && strings.TrimSpace(t.text) == "" {
			continue
		}
		if t.kind == tokenExecutable && !d.dollarQuotes {
			return nil, c.invalid("the query holds an executable comment (/*! ... */)")
		}
		if ended {
			return nil, c.invalid("the query holds more than one statement")
		}
		if t.kind != tokenCode {
			previous = ""
			continue
		}
		if at := strings.IndexByte(t.text, ';'); at >= 0 {
			if strings.Trim(t.text[at:], "; \t\r\n\f\v") != "" {
				return nil, c.invalid("the query holds more than one statement")
			}
			ended = true
			tokens[i].text = t.text[:at]
		}
		for word := range strings.FieldsFuncSeq(tokens[i].text, notWord) {
			word = strings.ToLower(word)
			if firstWord == "" {
				firstWord = word
			}
			if previous == "into" && (word == "outfile" || word == "dumpfile") {
				return nil, c.invalid("a query may not write files")
			}
			previous = word
		}
	}
	if !slices.Contains(readers, firstWord) {
		return nil, c.invalid("a query must begin with SELECT, WITH, VALUES, TABLE, SHOW or EXPLAIN, not %.20q", firstWord)
	}
	return tokens, nil
}

func notWord(r rune) bool { return r < 0x80 && !wordByte(byte(r&0x7F)) }

func (b *binder) token(t token) error {
	switch t.kind {
	case tokenCode:
		return b.code(t.text)
	case tokenString:
		return b.literal(t)
	case tokenIdentifier, tokenRaw:
		if parts := b.placeholders(t.text); parts != nil {
			return b.invalid("%s stands inside %.40q, where only the author's own text can be: a value cannot name a table or column", parts[0], t.text)
		}
	case tokenComment, tokenExecutable:
		b.out.WriteByte(' ') // a comment parts words and is not worth sending
		return nil
	}
	b.out.WriteString(t.text)
	return nil
}

// placeholders lists those in text that would be filled, as written; nil when there is none.
func (b *binder) placeholders(text string) []string {
	var found []string
	for _, part := range workflow.CompileTemplate(text).Parts() {
		if part.Placeholder() {
			if _, ok := b.value(part); ok {
				found = append(found, part.Text)
			}
		}
	}
	return found
}

// value looks a placeholder up: in the params by name, then, for a template, in the state.
func (b *binder) value(part workflow.TemplatePart) (any, bool) {
	if b.named != nil {
		if v, ok := part.Value(workflow.Values(b.named)); ok {
			return v, true
		}
	}
	if b.fill {
		return part.Value(b.values)
	}
	return nil, false
}

func (b *binder) code(text string) error {
	for _, part := range workflow.CompileTemplate(text).Parts() {
		if !part.Placeholder() {
			if err := b.plain(part.Text); err != nil {
				return err
			}
			continue
		}
		value, ok := b.value(part)
		switch {
		case ok:
			b.param(value)
		case b.fill || b.named != nil:
			return b.invalid("neither the state nor params has %s", part.Text)
		default:
			b.out.WriteString(part.Text)
		}
	}
	return nil
}

// plain copies code, and binds :name and, where they are counted, question marks on the way.
func (b *binder) plain(text string) error {
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == ':' && i+1 < len(text) && text[i+1] == ':':
			b.out.WriteString("::")
			i++
			continue
		case text[i] == ':' && b.named != nil:
			end := i + 1
			for end < len(text) && wordByte(text[end]) {
				end++
			}
			if value, ok := b.named[text[i+1:end]]; ok && end > i+1 {
				b.param(value)
				i = end - 1
				continue
			}
		case text[i] == '?' && !b.dialect.numbered:
			if b.next >= len(b.listed) {
				return b.invalid("the query has more question marks than params has values")
			}
			b.param(b.listed[b.next])
			b.next++
			continue
		}
		b.out.WriteByte(text[i])
	}
	return nil
}

// literal binds a string that holds a placeholder as one parameter: '%{q}%' becomes a value.
func (b *binder) literal(t token) error {
	parts := workflow.CompileTemplate(t.inner).Parts()
	known := false
	for _, part := range parts {
		if part.Placeholder() {
			_, ok := b.value(part)
			known = known || ok
		}
	}
	if !known {
		b.out.WriteString(t.text)
		return nil
	}
	if len(parts) == 1 {
		if value, _ := b.value(parts[0]); value == nil {
			b.typed(nil)
			return nil
		}
	}
	var whole strings.Builder
	quote := t.text[:1]
	for _, part := range parts {
		if part.Placeholder() {
			if value, ok := b.value(part); ok {
				text, err := workflow.Text(value)
				if err != nil {
					return b.invalid("%s: %s", part.Text, err.Error())
				}
				whole.WriteString(text)
				continue
			}
		}
		if b.dialect.backslash && strings.Contains(part.Text, `\`) {
			return b.invalid("a string with both a backslash and a placeholder cannot be bound: put the value into params")
		}
		whole.WriteString(strings.ReplaceAll(part.Text, quote+quote, quote))
	}
	b.typed(whole.String())
	return nil
}

// param adds a parameter and writes its place.
func (b *binder) param(value any) {
	b.args = append(b.args, value)
	if b.dialect.numbered {
		b.out.WriteString("$" + strconv.Itoa(len(b.args)))
	} else {
		b.out.WriteByte('?')
	}
}

// typePrefixes may stand in front of a string to give it a type, as in DATE '2025-01-31'. A
// parameter cannot follow them, so it is cast instead.
var typePrefixes = map[string]string{
	"date": "date", "time": "time", "timestamp": "timestamp", "timestamptz": "timestamptz", "timetz": "timetz",
	"interval": "interval", "uuid": "uuid", "json": "json", "jsonb": "jsonb", "numeric": "numeric", "text": "text",
	"inet": "inet", "bytea": "bytea", "bool": "bool", "boolean": "boolean",
}

// typed is param for a string literal, which may have its type in front.
func (b *binder) typed(value any) {
	written := b.out.String()
	trimmed := strings.TrimRight(written, " \t\r\n")
	from := len(trimmed)
	for from > 0 && wordByte(trimmed[from-1]) {
		from--
	}
	kind, ok := typePrefixes[strings.ToLower(trimmed[from:])]
	mysqlType := kind == "date" || kind == "time" || kind == "timestamp"
	if !ok || from > 0 && (trimmed[from-1] == '.' || trimmed[from-1] == ':') || !b.dialect.numbered && !mysqlType {
		b.param(value)
		return
	}
	b.out.Reset()
	b.out.WriteString(trimmed[:from] + "CAST(")
	b.param(value)
	if !b.dialect.numbered && kind == "timestamp" {
		kind = "datetime"
	}
	b.out.WriteString(" AS " + kind + ")")
}
