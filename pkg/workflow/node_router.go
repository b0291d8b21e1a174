package workflow

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode"
)

func init() {
	RegisterNodeType(NodeType{
		Name:        "router",
		Description: "Chooses an intent, and with it the branch to take: by keyword, pattern, rules, a language model, or none.",
		Kind:        "llm",
		OutputKey:   "intent",
		Pure:        func(n Node) bool { return !strings.EqualFold(textOf(n.Metadata["strategy"]), "llm") },
		compile:     func(n *PlanNode, report func(Problem)) { n.Router = newRouter(n.Node, report) },
	})
}

// The strategies of a router.
const (
	StrategyKeyword = "keyword"
	StrategyPattern = "pattern"
	StrategyRules   = "rules"
	StrategyLLM     = "llm"
	StrategyDefault = "default"
)

const (
	maxPatternText = 4 << 10
	// maxPatternProgram bounds what the patterns of one router compile to, and maxPatternInput
	// what they look at: matching takes time in proportion to the product of the two.
	maxPatternProgram = 5000
	maxPatternInput   = 32 << 10
)

// Router is the compiled form of a router node. It is immutable and safe for concurrent use.
type Router struct {
	Strategy      string
	DefaultIntent string

	inputKey string
	routes   []route
}

type route struct {
	intent      string
	description string
	keywords    []string // in lower case
	pattern     *regexp.Regexp
	rule        rule
	target      string
}

func newRouter(n Node, report func(Problem)) *Router {
	f := NodeFields(n, report)
	r := &Router{
		Strategy: f.OneOf("strategy", StrategyKeyword,
			StrategyKeyword, StrategyPattern, StrategyRules, StrategyLLM, StrategyDefault),
		DefaultIntent: f.Name("default_intent", "unknown"),
		inputKey:      f.Name("input_key", "user_input"),
	}
	routes := f.Objects("routes")
	budget := maxPatternProgram
	for _, rf := range routes {
		r.routes = append(r.routes, newRoute(rf, r.Strategy, &budget))
	}
	free := r.Strategy == StrategyDefault || r.Strategy == StrategyLLM && f.Has("default_intent")
	if len(routes) == 0 && !free && (!f.Has("routes") || isList(f.values["routes"])) {
		f.Missing("routes", "a router needs routes to choose from; only strategy default, and llm with a default_intent, do without")
	}
	return r
}

func isList(v any) bool { return kindOf(v) == "an array" }

func newRoute(f Fields, strategy string, budget *int) route {
	r := route{
		intent:      f.Name("intent", ""),
		description: f.Text("description", ""),
		target:      f.Name("target_node", ""),
	}
	if !f.Has("intent") {
		f.Missing("intent", "a route must name its intent")
	}
	switch strategy {
	case StrategyKeyword:
		for _, k := range f.Texts("keywords", nil) {
			r.keywords = append(r.keywords, strings.ToLower(k))
		}
	case StrategyPattern:
		if text := f.Text("pattern", ""); text != "" {
			r.pattern = compilePattern(f, text, budget)
		}
	case StrategyRules:
		if text := f.Text("condition", ""); text != "" {
			var err error
			if r.rule, err = parseRule(text); err != nil {
				f.Invalid("condition", "%s", err)
			}
		}
	}
	return r
}

func compilePattern(f Fields, text string, budget *int) *regexp.Regexp {
	if len(text) > maxPatternText {
		f.Invalid("pattern", "the pattern is longer than %d bytes", maxPatternText)
		return nil
	}
	// The author's pattern has to stand on its own: a)(b must not become valid inside our group.
	size, err := patternSize(text)
	if err != nil {
		f.Invalid("pattern", "%s", err)
		return nil
	}
	if *budget -= size; *budget < 0 {
		f.Invalid("pattern", "the patterns of this router are too complex together; use fewer or smaller repetitions")
		return nil
	}
	re, err := regexp.Compile(`(?i)\A(?:` + text + `)`)
	if err != nil {
		f.Invalid("pattern", "the pattern %s cannot be used: %s", quoted(text), shorten(err.Error()))
		return nil
	}
	return re
}

// patternSize returns how many instructions a regular expression compiles to, at most.
func patternSize(text string) (int, error) {
	bound := 2*len(text) + 8 // without counted repetitions it needs no compiling
	if !strings.ContainsAny(text, `(){}\\[]?*+`) {
		return bound, nil // and what has none of these stands on its own
	}
	tree, err := syntax.Parse(text, syntax.Perl|syntax.FoldCase)
	if err != nil {
		reason := err.Error()
		for _, around := range []string{"(?=", "(?!", "(?<=", "(?<!"} {
			if strings.Contains(text, around) {
				reason = "look-around is not supported (patterns are RE2)"
			}
		}
		return 0, fmt.Errorf("the pattern %s cannot be used: %s", quoted(text), shorten(reason))
	}
	if !strings.Contains(text, "{") {
		return bound, nil
	}
	program, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return 0, fmt.Errorf("the pattern %s cannot be used: %w", quoted(text), err)
	}
	return len(program.Inst), nil
}

// Decide returns the intent for the state. A router with strategy llm cannot decide by
// itself: it answers its default intent; use LLMPrompt and MatchIntent.
func (r *Router) Decide(v Values) (string, error) {
	text, err := r.input(v)
	if err != nil {
		return "", err
	}
	switch r.Strategy {
	case StrategyKeyword:
		lower := strings.ToLower(text)
		return r.first(func(rt route) bool {
			return slices.ContainsFunc(rt.keywords, func(k string) bool { return strings.Contains(lower, k) })
		}), nil
	case StrategyPattern:
		if len(text) > maxPatternInput {
			text = text[:maxPatternInput]
		}
		return r.first(func(rt route) bool { return rt.pattern != nil && rt.pattern.MatchString(text) }), nil
	case StrategyRules:
		lower := strings.ToLower(text)
		return r.first(func(rt route) bool { return rt.rule.holds(lower) }), nil
	}
	return r.DefaultIntent, nil
}

func (r *Router) first(matches func(route) bool) string {
	for _, rt := range r.routes {
		if matches(rt) {
			return rt.intent
		}
	}
	return r.DefaultIntent
}

func (r *Router) input(v Values) (string, error) {
	value, _ := v.Read(r.inputKey)
	if value == nil {
		return "", nil
	}
	return Text(value)
}

// Intents lists the intents of the routes, each once, in order.
func (r *Router) Intents() []string {
	var intents []string
	for _, rt := range r.routes {
		if !slices.Contains(intents, rt.intent) {
			intents = append(intents, rt.intent)
		}
	}
	return intents
}

// LLMPrompt is the question that an llm router puts to its source.
func (r *Router) LLMPrompt(v Values) (string, error) {
	text, err := r.input(v)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("Choose the one intent that fits the input best. Answer with its name and nothing else.\n\nIntents:\n")
	for _, rt := range r.routes {
		b.WriteString("- " + rt.intent)
		if rt.description != "" {
			b.WriteString(": " + rt.description)
		}
		b.WriteByte('\n')
	}
	if !slices.ContainsFunc(r.routes, func(rt route) bool { return strings.EqualFold(rt.intent, r.DefaultIntent) }) {
		b.WriteString("- " + r.DefaultIntent + ": none of the others\n")
	}
	b.WriteString("\nInput:\n" + text)
	return b.String(), nil
}

// MatchIntent reads a model's answer: the intent it equals, else the longest intent it
// contains, else the default. Case does not matter.
func (r *Router) MatchIntent(answer string) string {
	trimmed := strings.ToLower(strings.TrimFunc(answer, func(c rune) bool { return unicode.IsSpace(c) || unicode.IsPunct(c) || c == '`' }))
	best := ""
	for _, intent := range append(r.Intents(), r.DefaultIntent) {
		lower := strings.ToLower(intent)
		if lower == trimmed || lower == strings.ToLower(strings.TrimSpace(answer)) {
			return intent
		}
		if lower != "" && len(intent) > len(best) && strings.Contains(trimmed, lower) {
			best = intent
		}
	}
	if best == "" {
		return r.DefaultIntent
	}
	return best
}

// target returns the node that the routes name for an intent, or "".
func (r *Router) target(intent string) string {
	for _, rt := range r.routes {
		if rt.target != "" && strings.EqualFold(rt.intent, intent) {
			return rt.target
		}
	}
	return ""
}

func textOf(v any) string {
	s, _ := v.(string)
	return strings.TrimSpace(s)
}
