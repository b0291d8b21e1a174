package protocol_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// source is what the code of this package says about its messages.
type source struct {
	t       *testing.T
	structs map[string]*ast.StructType
	docs    map[string]string
	named   map[string]ast.Expr // other types, by name
	params  map[string][]string // type parameters of generic structs
	calls   []call
	verbs   []verb
	kinds   []string
	events  []event
	roots   []string // of subjects

	used map[string]object // schemas that something refers to
}

type call struct {
	subject           string
	types             []ast.Expr
	request, response string // the names of their schemas
}

// verb is a command, with the types that its comment names.
type verb struct{ name, data, answer string }

type event struct{ name, wire string }

// pairs is an object whose keys keep their order.
type (
	pair struct {
		key   string
		value any
	}
	object []pair
	list   []any
)

func readSource(t *testing.T) *source {
	t.Helper()
	s := &source{
		t: t, structs: map[string]*ast.StructType{}, docs: map[string]string{}, named: map[string]ast.Expr{},
		params: map[string][]string{}, used: map[string]object{},
	}
	for _, dir := range []string{".", "../workflow"} {
		files, err := filepath.Glob(dir + "/*.go")
		require.NoError(t, err)
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
			require.NoError(t, err)
			s.file(f)
		}
	}
	require.NotEmpty(t, s.calls)
	for i, c := range s.calls {
		s.calls[i].request, s.calls[i].response = s.ref(c.types[0], nil), s.ref(c.types[1], nil)
	}
	require.NotEmpty(t, s.verbs)
	require.NotEmpty(t, s.events)
	return s
}

func (s *source) file(f *ast.File) {
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					if f.Name.Name == "protocol" || spec.Name.Name == "Source" || spec.Name.Name == "Bandwidth" {
						s.declared(spec, d.Doc)
					}
				case *ast.ValueSpec:
					if f.Name.Name == "protocol" {
						s.value(spec)
					}
				}
			}
		case *ast.FuncDecl:
			if d.Name.Name == "EventType" && d.Recv != nil {
				wire := literal(d.Body.List[0].(*ast.ReturnStmt).Results[0])
				s.events = append(s.events, event{d.Recv.List[0].Type.(*ast.Ident).Name, wire})
			}
		}
	}
}

func (s *source) declared(spec *ast.TypeSpec, doc *ast.CommentGroup) {
	name := spec.Name.Name
	s.docs[name] = sentence(doc)
	if st, ok := spec.Type.(*ast.StructType); ok {
		s.structs[name] = st
		if spec.TypeParams != nil {
			for _, p := range spec.TypeParams.List {
				for _, n := range p.Names {
					s.params[name] = append(s.params[name], n.Name)
				}
			}
		}
		return
	}
	s.named[name] = spec.Type
}

func (s *source) value(spec *ast.ValueSpec) {
	if len(spec.Values) != 1 {
		return
	}
	name := spec.Names[0].Name
	if text := literal(spec.Values[0]); strings.HasPrefix(text, "agentflow.") && strings.HasSuffix(text, ".") {
		s.roots = append(s.roots, text)
	}
	switch kind, _ := spec.Type.(*ast.Ident); {
	case kind == nil:
	case kind.Name == "Verb":
		data, answer, ok := strings.Cut(sentence(spec.Comment), " -> ")
		require.True(s.t, ok, "the comment of %s names the types of its data and its answer", name)
		answer = strings.FieldsFunc(answer, func(r rune) bool { return r == ',' || r == ';' })[0]
		s.verbs = append(s.verbs, verb{literal(spec.Values[0]), data, answer})
	case kind.Name == "CatalogKind":
		s.kinds = append(s.kinds, literal(spec.Values[0]))
	}
	made, ok := spec.Values[0].(*ast.CompositeLit)
	if !ok {
		return
	}
	generic, ok := made.Type.(*ast.IndexListExpr)
	if !ok || generic.X.(*ast.Ident).Name != "Call" {
		return
	}
	s.calls = append(s.calls, call{subject: literal(made.Elts[0].(*ast.KeyValueExpr).Value), types: generic.Indices})
}

func literal(e ast.Expr) string {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return ""
	}
	text, err := strconv.Unquote(lit.Value)
	if err != nil {
		return ""
	}
	return text
}

// sentence is a comment in one line.
func sentence(c *ast.CommentGroup) string { return strings.Join(strings.Fields(c.Text()), " ") }

// ref is the name of the schema of a struct. Generic ones are named for what they are made of.
func (s *source) ref(e ast.Expr, args map[string]ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		if a, ok := args[e.Name]; ok {
			return s.ref(a, nil)
		}
		return e.Name
	case *ast.SelectorExpr:
		return e.Sel.Name
	case *ast.IndexExpr:
		name := e.X.(*ast.Ident).Name
		of := s.ref(e.Index, args)
		s.build(name+"Of"+of, name, map[string]ast.Expr{s.param(name): e.Index})
		return name + "Of" + of
	}
	s.t.Fatalf("no name for %T", e)
	return ""
}

func (s *source) param(name string) string {
	if p := s.params[name]; len(p) == 1 {
		return p[0]
	}
	return "T"
}

// build makes the schema of a struct, once.
func (s *source) build(schema, name string, args map[string]ast.Expr) {
	if _, done := s.used[schema]; done || s.structs[name] == nil {
		return
	}
	s.used[schema] = nil // met again while it is made
	var parts list
	var required list
	properties := object{}
	for _, f := range s.structs[name].Fields.List {
		if len(f.Names) == 0 {
			parts = append(parts, s.typeOf(f.Type, args)) // its fields stand among ours
			continue
		}
		if f.Tag == nil {
			continue
		}
		tag := reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("json")
		key, options, _ := strings.Cut(tag, ",")
		if key == "" || key == "-" {
			continue
		}
		value := s.typeOf(f.Type, args)
		if text := sentence(f.Comment); text != "" {
			value = append(append(object{}, value...), pair{"description", text})
		}
		properties = append(properties, pair{key, value})
		if !strings.Contains(options, "omitempty") {
			required = append(required, key)
		}
	}
	out := object{{"type", "object"}}
	if text := s.docs[name]; text != "" {
		out = append(out, pair{"description", text})
	}
	if len(parts) > 0 {
		out = append(out, pair{"allOf", parts})
	}
	if len(required) > 0 {
		out = append(out, pair{"required", required})
	}
	if len(properties) > 0 {
		out = append(out, pair{"properties", properties})
	}
	s.used[schema] = out
}

func refTo(schema string) object { return object{{"$ref", "#/components/schemas/" + schema}} }

// typeOf is the schema of a type as it stands on the wire.
func (s *source) typeOf(e ast.Expr, args map[string]ast.Expr) object {
	switch e := e.(type) {
	case *ast.Ident:
		return s.ident(e.Name, args)
	case *ast.StarExpr:
		return s.typeOf(e.X, args)
	case *ast.ArrayType:
		return object{{"type", "array"}, {"items", s.typeOf(e.Elt, args)}}
	case *ast.MapType:
		return object{{"type", "object"}, {"additionalProperties", s.typeOf(e.Value, args)}}
	case *ast.InterfaceType:
		return object{}
	case *ast.IndexExpr:
		return refTo(s.ref(e, args))
	case *ast.SelectorExpr:
		if e.Sel.Name == "RawMessage" {
			return object{}
		}
		return s.ident(e.Sel.Name, args)
	}
	s.t.Fatalf("no schema for %T", e)
	return nil
}

func (s *source) ident(name string, args map[string]ast.Expr) object {
	switch name {
	case "string":
		return object{{"type", "string"}}
	case "bool":
		return object{{"type", "boolean"}}
	case "int", "int64", "uint64", "int32":
		return object{{"type", "integer"}}
	case "float64", "Number":
		return object{{"type", "number"}}
	case "any":
		return object{}
	case "Time":
		return object{{"type", list{"string", "null"}}, {"format", "date-time"}}
	case "Verbatim":
		return object{{"type", "string"}}
	case "Object":
		s.used["Object"] = object{
			{"type", "object"},
			{"description", "A JSON object inline, or the name of one in the object store; empty where there is neither."},
			{"properties", object{
				{"value", object{{"type", "object"}}}, {"ref", object{{"type", "string"}}}, {"bytes", object{{"type", "integer"}}},
			}},
		}
		return refTo("Object")
	}
	if a, ok := args[name]; ok {
		return s.typeOf(a, nil)
	}
	if s.structs[name] != nil {
		s.build(name, name, nil)
		return refTo(name)
	}
	if under, ok := s.named[name]; ok {
		return s.typeOf(under, nil)
	}
	s.t.Fatalf("no schema for %s", name)
	return nil
}

// write renders a value as YAML.
func write(b *strings.Builder, v any, indent string) {
	switch v := v.(type) {
	case object:
		if len(v) == 0 {
			b.WriteString(" {}\n")
			return
		}
		b.WriteString("\n")
		for _, p := range v {
			b.WriteString(indent + p.key + ":")
			write(b, p.value, indent+"  ")
		}
	case list:
		if len(v) == 0 {
			b.WriteString(" []\n")
			return
		}
		b.WriteString("\n")
		for _, item := range v {
			b.WriteString(indent + "-")
			if o, ok := item.(object); ok && len(o) > 0 {
				var inner strings.Builder
				write(&inner, o, indent+"  ")
				b.WriteString(" " + strings.TrimLeft(strings.TrimPrefix(inner.String(), "\n"), " "))
				continue
			}
			write(b, item, indent+"  ")
		}
	case string:
		fmt.Fprintf(b, " %s\n", strconv.Quote(v))
	case nil:
		b.WriteString(" null\n")
	default:
		fmt.Fprintf(b, " %v\n", v)
	}
}

func keep(t *testing.T, file, text string, update bool) {
	t.Helper()
	if update {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	}
	got, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, text, string(got), "%s is not what the code says; -update writes it", file)
}
