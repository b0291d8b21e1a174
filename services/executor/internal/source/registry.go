package source

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/agentflow/agentflow/pkg/workflow"
)

// Field is one key of a source's config.
type Field struct {
	Name        string `json:"name"`
	Type        string `json:"type"` // string, number, integer, boolean, object, env
	Default     string `json:"default,omitempty"`
	Description string `json:"description"`
}

// Kind describes one kind of source.
type Kind struct {
	Kind        string     `json:"kind"`
	Name        string     `json:"name"`
	Description string     `json:"description"`
	Required    []Field    `json:"required_config"`
	Optional    []Field    `json:"optional_config"`
	Providers   []Provider `json:"providers"`
}

// Provider describes one outside system that serves a kind.
type Provider struct {
	Kind        string   `json:"kind"`
	Name        string   `json:"name"`
	Aliases     []string `json:"aliases,omitempty"`
	Description string   `json:"description"`
	KeyEnv      []string `json:"key_env,omitempty"`  // variables tried in order when the config names none
	BaseURL     string   `json:"base_url,omitempty"` // "" when the config must name one
	Required    []string `json:"required,omitempty"` // config keys beyond the kind's own
}

// llmAdapter asks one language model provider.
type llmAdapter interface {
	complete(ctx context.Context, c *call, q question) (answer, error)
	probe(ctx context.Context, c *call, model string) error
}

// imageAdapter asks one image model provider.
type imageAdapter interface {
	paint(ctx context.Context, c *call, model string, req ImageRequest) (picture, error)
	probe(ctx context.Context, c *call, model string) error
}

// sqlAdapter speaks to one family of databases.
type sqlAdapter interface {
	schemes() []string // of the connection strings it takes
	open(c *call, dsn string, knobs poolKnobs) (sqlPool, error)
}

// registered is what init functions of this package have announced. It is only written by them.
var registered = struct {
	kinds     []Kind
	providers []Provider
	llm       map[string]llmAdapter
	image     map[string]imageAdapter
	sql       map[string]sqlAdapter // by scheme
}{
	llm:   map[string]llmAdapter{},
	image: map[string]imageAdapter{},
	sql:   map[string]sqlAdapter{},
}

func registerKind(k Kind) {
	for _, other := range registered.kinds {
		if other.Kind == k.Kind {
			panic("source: kind " + k.Kind + " is registered twice")
		}
	}
	registered.kinds = append(registered.kinds, k)
}

func registerLLM(p Provider, a llmAdapter) {
	p.Kind = "llm"
	for _, name := range announce(p) {
		registered.llm[name] = a
	}
}

func registerImage(p Provider, a imageAdapter) {
	p.Kind = "image"
	for _, name := range announce(p) {
		registered.image[name] = a
	}
}

func registerSQL(p Provider, a sqlAdapter) {
	p.Kind = "db"
	announce(p)
	for _, scheme := range a.schemes() {
		if _, twice := registered.sql[scheme]; twice {
			panic("source: scheme " + scheme + " is registered twice")
		}
		registered.sql[scheme] = a
	}
}

// announce notes a provider and answers all its names. A name may stand once per kind.
func announce(p Provider) []string {
	names := append([]string{p.Name}, p.Aliases...)
	for _, other := range registered.providers {
		for _, name := range names {
			if other.Kind == p.Kind && (other.Name == name || slices.Contains(other.Aliases, name)) {
				panic(fmt.Sprintf("source: %s provider %s is registered twice", p.Kind, name))
			}
		}
	}
	registered.providers = append(registered.providers, p)
	return names
}

// Describe lists every kind with its providers, sorted by name.
func Describe() []Kind {
	kinds := slices.Clone(registered.kinds)
	for i := range kinds {
		kinds[i].Providers = Providers(kinds[i].Kind)
	}
	slices.SortFunc(kinds, func(a, b Kind) int { return strings.Compare(a.Kind, b.Kind) })
	return kinds
}

// Providers lists the providers of a kind, sorted by name.
func Providers(kind string) []Provider {
	var out []Provider
	for _, p := range registered.providers {
		if p.Kind == kind {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b Provider) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// providerOf finds what the config names, the default of the kind when it names nothing.
func providerOf(kind string, c config) (Provider, error) {
	name := strings.ToLower(c.text("provider"))
	if name == "" {
		name = defaultProvider
	}
	var known []string
	for _, p := range Providers(kind) {
		if p.Name == name || slices.Contains(p.Aliases, name) {
			return p, nil
		}
		known = append(known, p.Name)
	}
	return Provider{}, fmt.Errorf("provider %q is not known for %s sources; it is one of %s", name, kind, strings.Join(known, ", "))
}

// defaultProvider serves llm and image sources that name none.
const defaultProvider = "gemini"

// Check finds what is wrong with a source as far as its adapter alone can tell: nothing is
// resolved and nothing is called.
func Check(src workflow.Source) []workflow.Problem {
	cfg := config(src.Config)
	add := checker{source: src}
	switch src.Kind {
	case "llm", "image":
		add.model(cfg)
	case "api":
		add.api(cfg)
	case "db":
		if cfg.text("connection_string_env", "dsn_env") == "" {
			add.missing("connection_string_env", "name the environment variable that holds the connection string")
		}
	default:
		add.invalid("kind", "kind %q is not one of llm, image, db, api", src.Kind)
	}
	add.literals(cfg)
	add.variables(cfg)
	return add.problems
}
