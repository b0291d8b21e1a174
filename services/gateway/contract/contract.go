// Package contract holds the gateway's answers against its OpenAPI document. It is for tests: a
// client that is given its Transport fails on an answer that the document does not describe.
//
// The document is checked as a whole, examples included, by kin-openapi; answers are checked against
// schemas that are compiled once, since an OpenAPI 3.1 schema is a JSON Schema 2020-12.
package contract

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Contract is an OpenAPI document that answers are held against.
type Contract struct {
	Document map[string]any // as it was read

	paths    []path // the most literal first
	compiler *jsonschema.Compiler

	mu      sync.Mutex
	schemas map[string]*jsonschema.Schema // by pointer into the document
}

type path struct {
	template   string
	pattern    *regexp.Regexp
	parameters int
	operations map[string]any
}

// address is what the document is called inside the compiler.
const address = "openapi.json"

var parameter = regexp.MustCompile(`\\\{\w+\\\}`)

// Validate checks a document as a whole: its structure, its references, and that its examples are what its schemas
// ask for.
func Validate(ctx context.Context, document []byte) error {
	spec, err := openapi3.NewLoader().LoadFromData(document)
	if err != nil {
		return fmt.Errorf("read the document: %w", err)
	}
	if err := spec.Validate(ctx); err != nil {
		return fmt.Errorf("validate the document: %w", err)
	}
	return nil
}

// Load reads a document that is valid.
func Load(document []byte) (*Contract, error) {
	raw, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	if err != nil {
		return nil, fmt.Errorf("read the document: %w", err)
	}
	root, ok := raw.(map[string]any)
	if !ok {
		return nil, errors.New("the document is not an object")
	}
	c := &Contract{Document: root, compiler: jsonschema.NewCompiler(), schemas: map[string]*jsonschema.Schema{}}
	c.compiler.DefaultDraft(jsonschema.Draft2020)
	c.compiler.AssertFormat()
	if err := c.compiler.AddResource(address, raw); err != nil {
		return nil, fmt.Errorf("read the document: %w", err)
	}
	for template, item := range object(root["paths"]) {
		pattern := parameter.ReplaceAllString(regexp.QuoteMeta(template), "[^/]+")
		if template == "/queues/{id}/usage" {
			pattern = strings.Replace(pattern, "[^/]+", ".+", 1) // the names of queues hold slashes
		}
		c.paths = append(c.paths, path{
			template: template, pattern: regexp.MustCompile("^" + pattern + "$"),
			parameters: strings.Count(template, "{"), operations: object(item),
		})
	}
	slices.SortFunc(c.paths, func(a, b path) int { return a.parameters - b.parameters })
	return c, nil
}

// Answer is one answer, and what was asked.
type Answer struct {
	Method string
	Path   string // as it was sent, without the query
	Status int
	Media  string // Content-Type
	Body   []byte // nil for a stream
}

// unrouted are the statuses of an answer that belongs to no operation.
var unrouted = []int{400, 404, 405, 408, 413, 431, 503}

// Check is nil when the document describes the answer.
func (c *Contract) Check(a Answer) error {
	if err := c.check(a); err != nil {
		return fmt.Errorf("%s %s answered %d, against the document: %w\nbody: %.2000s", a.Method, a.Path, a.Status, err, a.Body)
	}
	return nil
}

func (c *Contract) check(a Answer) error {
	media, _, err := mime.ParseMediaType(a.Media)
	if err != nil {
		return fmt.Errorf("media type %q: %w", a.Media, err)
	}
	template, op := c.operation(a.Method, a.Path)
	if op == nil {
		if !slices.Contains(unrouted, a.Status) {
			return errors.New("no operation is documented here")
		}
		schema := "Problem"
		if media == "application/json" && strings.HasPrefix(a.Path, "/api/v1") {
			schema = "FrozenError"
		} else if media != "application/problem+json" {
			return fmt.Errorf("the media type of an error is not %s", media)
		}
		return c.validate("/components/schemas/"+schema, a.Body)
	}
	responses := object(op["responses"])
	response, ok := responses[strconv.Itoa(a.Status)]
	if !ok {
		return fmt.Errorf("the status is not documented for %s", op["operationId"])
	}
	at := "/paths/" + escape(template) + "/" + strings.ToLower(a.Method) + "/responses/" + strconv.Itoa(a.Status)
	if ref, ok := object(response)["$ref"].(string); ok {
		at = strings.TrimPrefix(ref, "#")
		response = object(object(c.Document["components"])["responses"])[at[strings.LastIndexByte(at, '/')+1:]]
	}
	content := object(object(response)["content"])
	if _, ok := content[media]; !ok {
		return fmt.Errorf("the media type %s is not documented for %s", media, op["operationId"])
	}
	if a.Body == nil {
		return nil
	}
	return c.validate(at+"/content/"+escape(media)+"/schema", a.Body)
}

// operation finds what a request asks for.
func (c *Contract) operation(method, at string) (template string, op map[string]any) {
	for _, p := range c.paths {
		if !p.pattern.MatchString(at) {
			continue
		}
		if op, ok := p.operations[strings.ToLower(method)]; ok {
			return p.template, object(op)
		}
	}
	return "", nil
}

func (c *Contract) validate(pointer string, body []byte) error {
	schema, err := c.schema(pointer)
	if err != nil {
		return err
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("the body is not JSON: %w", err)
	}
	return schema.Validate(value)
}

func (c *Contract) schema(pointer string) (*jsonschema.Schema, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, ok := c.schemas[pointer]; ok {
		return s, nil
	}
	s, err := c.compiler.Compile(address + "#" + pointer)
	if err != nil {
		return nil, fmt.Errorf("compile %s: %w", pointer, err)
	}
	c.schemas[pointer] = s
	return s, nil
}

// escape writes a name as one step of a JSON pointer in a URL.
func escape(name string) string {
	name = strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
	return strings.NewReplacer("{", "%7B", "}", "%7D", "+", "%2B").Replace(name)
}

// object is v as an object; nil when it is none.
func object(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

// Example is one example of a request body in the document.
type Example struct {
	Method, Path, Operation, Name string
	Body                          json.RawMessage
}

// Examples lists the examples of requests, by path and name.
func (c *Contract) Examples() ([]Example, error) {
	var list []Example
	for _, p := range c.paths {
		for method, op := range p.operations {
			id, _ := object(op)["operationId"].(string)
			media := object(object(object(object(op)["requestBody"])["content"])["application/json"])
			for name, example := range object(media["examples"]) {
				body, err := json.Marshal(object(example)["value"])
				if err != nil {
					return nil, fmt.Errorf("example %s of %s: %w", name, id, err)
				}
				list = append(list, Example{strings.ToUpper(method), p.template, id, name, body})
			}
		}
	}
	slices.SortFunc(list, func(a, b Example) int { return strings.Compare(a.Path+a.Method+a.Name, b.Path+b.Method+b.Name) })
	return list, nil
}
