package workflow

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/ext"
	"cel.dev/cel-go/interpreter"
)

const (
	maxConditionText = 4 << 10
	// maxConditionCost is CEL's own measure, roughly one per operation. Spending all of it takes
	// tens of milliseconds; a comparison costs two or three.
	maxConditionCost = 1_000_000
	// maxConditionRegex bounds the program a regular expression compiles to. CEL has an option
	// for it, but that one panics at repetitions such as x{3}.
	maxConditionRegex = 500
	// maxConditions bounds what one spec may ask us to compile, at about 0.1 ms each.
	maxConditions = 1000
)

// condition is a compiled edge condition. It is immutable and safe for concurrent use.
type condition struct {
	text    string
	program cel.Program
}

// conditionEnv declares what every condition may use. It is built at the first condition,
// because programs that compile none should not pay for it.
var conditionEnv = sync.OnceValues(func() (*cel.Env, error) {
	options := []cel.EnvOption{
		cel.CrossTypeNumericComparisons(true),
		ext.Strings(),
		cel.ParserExpressionSizeLimit(maxConditionText),
		cel.Variable("state", cel.DynType),
	}
	for key := range reducers { // most conditions name nothing else, and then need no environment of their own
		options = append(options, cel.Variable(key, cel.DynType))
	}
	return cel.NewEnv(options...)
})

// Functions that build texts of a size that is the product of their arguments': a condition
// decides, it does not build, and CEL counts their cost only after they have run.
var textBuilders = map[string]bool{"replace": true, "join": true, "format": true}

// conditions are those compiled last: a document that comes again with one change says most of what it
// said before. What a condition compiles to depends on nothing but its text.
var conditions memo

// memo keeps the newest generation of conditions, and the one before.
type memo struct {
	mu           sync.Mutex
	young, older map[string]*condition
}

// generation bounds the memory: a compiled condition takes some 10 KB.
const generation = 512

func (m *memo) get(text string) *condition {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.young[text]
	if c == nil {
		if c = m.older[text]; c != nil {
			m.keep(c)
		}
	}
	return c
}

func (m *memo) put(c *condition) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keep(c)
}

func (m *memo) keep(c *condition) {
	if len(m.young) >= generation || m.young == nil {
		m.young, m.older = make(map[string]*condition, generation), m.young
	}
	m.young[c.text] = c
}

// conditionOf compiles a condition, unless it has done so not long ago.
func conditionOf(text string) (*condition, error) {
	if c := conditions.get(text); c != nil {
		return c, nil
	}
	c, err := compileCondition(text)
	if err == nil {
		conditions.put(c)
	}
	return c, err
}

// compileCondition compiles a condition. Any free name is a key of the state.
func compileCondition(text string) (c *condition, err error) {
	// The text is a stranger's, and the compiler is not ours: what panics in there must not
	// take every other execution of the process with it.
	defer func() {
		if p := recover(); p != nil {
			c, err = nil, fmt.Errorf("CEL cannot read it: %v", p)
		}
	}()
	if len(text) > maxConditionText {
		return nil, fmt.Errorf("the condition is longer than %d bytes", maxConditionText)
	}
	env, err := conditionEnv()
	if err != nil {
		return nil, fmt.Errorf("prepare CEL: %w", err)
	}
	parsed, issues := env.Parse(text)
	if issues.Err() != nil {
		return nil, celError(text, issues)
	}
	names, err := freeNames(env, parsed)
	if err != nil {
		return nil, err
	}
	var variables []cel.EnvOption
	for _, name := range names {
		if _, known := reducers[name]; !known && name != "state" {
			variables = append(variables, cel.Variable(name, cel.DynType))
		}
	}
	if len(variables) > 0 {
		if env, err = env.Extend(variables...); err != nil {
			return nil, fmt.Errorf("declare the names of the condition: %w", err)
		}
	}
	checked, issues := env.Check(parsed)
	if issues.Err() != nil {
		return nil, celError(text, issues)
	}
	if t := checked.OutputType(); !t.IsExactType(cel.BoolType) && !t.IsExactType(cel.DynType) {
		return nil, fmt.Errorf("a condition is true or false, this one is of type %s", t)
	}
	program, err := env.Program(checked, cel.CostLimit(maxConditionCost), cel.EvalOptions(cel.OptOptimize))
	if err != nil {
		return nil, errors.New(oneLine(err.Error()))
	}
	return &condition{text: text, program: program}, nil
}

// freeNames lists the names that the expression takes from the state, and refuses what a
// condition may not use. Names that a macro binds are listed too: inside the macro its own
// binding wins, so declaring them does no harm.
func freeNames(env *cel.Env, parsed *cel.Ast) ([]string, error) {
	var names, typeNames []string
	var refused error
	seen := make(map[string]bool)
	provider := env.CELTypeProvider()
	asksType := false
	ast.PreOrderVisit(parsed.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		switch e.Kind() { //nolint:exhaustive // the other kinds name nothing
		case ast.IdentKind:
			name := strings.TrimPrefix(e.AsIdent(), ".")
			if spelling, ok := pythonNames[name]; ok && refused == nil {
				refused = fmt.Errorf("CEL writes %s for %s", spelling, name)
			}
			if seen[name] || strings.HasPrefix(name, "@") {
				return
			}
			seen[name] = true
			if _, isType := provider.FindIdent(name); isType {
				typeNames = append(typeNames, name)
			} else {
				names = append(names, name)
			}
		case ast.CallKind:
			call := e.AsCall()
			asksType = asksType || call.FunctionName() == "type"
			if refused == nil {
				refused = checkCall(call)
			}
		}
	}))
	if !asksType {
		// A state may well have a key called list or type. Such a word means CEL's type only
		// where types are compared, as in type(x) == list.
		names = append(names, typeNames...)
	}
	return names, refused
}

// checkCall refuses the calls whose cost CEL would count too late.
func checkCall(call ast.CallExpr) error {
	switch name := call.FunctionName(); {
	case textBuilders[name]:
		return fmt.Errorf("%s() is not available in conditions", name)
	case name == "matches" && len(call.Args()) > 0:
		last := call.Args()[len(call.Args())-1]
		if last.Kind() != ast.LiteralKind {
			return errors.New("the pattern of matches() must be written out in the condition")
		}
		text, ok := last.AsLiteral().Value().(string)
		if !ok {
			return nil // the type check refuses it
		}
		size, err := patternSize(text)
		if err != nil {
			return err
		}
		if size > maxConditionRegex {
			return fmt.Errorf("the pattern %s is too complex; use fewer or smaller repetitions", quoted(text))
		}
	}
	return nil
}

var (
	pythonNames = map[string]string{"True": "true", "False": "false", "None": "null"}
	pythonWords = map[string]string{"and": "&&", "or": "||", "not": "!", "is": "=="}
	quotedText  = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'`)
	words       = regexp.MustCompile(`[A-Za-z_]\w*`)
)

// celError says what is wrong in one line, and names CEL's spelling where the author wrote Python's.
func celError(text string, issues *cel.Issues) error {
	for _, word := range words.FindAllString(quotedText.ReplaceAllString(text, " "), -1) {
		if spelling, ok := pythonWords[word]; ok {
			return fmt.Errorf("CEL writes %s for %s", spelling, word)
		}
	}
	first := issues.Errors()[0]
	if line := first.Location.Line(); line > 0 {
		return fmt.Errorf("%s (line %d, column %d)", oneLine(first.Message), line, first.Location.Column()+1)
	}
	return errors.New(oneLine(first.Message))
}

func oneLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return shorten(line)
}

// ConditionError is a condition that could not be decided: it reads something that is not
// there, compares what cannot be compared, or costs too much.
type ConditionError struct {
	Edge       int // index into Plan.Edges
	Expression string
	Err        error
}

func (e *ConditionError) Error() string {
	return fmt.Sprintf("condition %s of edge %d: %v", quoted(e.Expression), e.Edge, e.Err)
}

func (e *ConditionError) Unwrap() error { return e.Err }

func (c *condition) holds(names interpreter.Activation) (bool, error) {
	result, _, err := c.program.Eval(names)
	if err != nil {
		return false, errors.New(oneLine(err.Error()))
	}
	decided, ok := result.(types.Bool)
	if !ok {
		return false, fmt.Errorf("the result is of type %s, want true or false", result.Type().TypeName())
	}
	return bool(decided), nil
}

// names resolves the names in a condition: every key of the state, state itself, and the
// intent of the router whose edge is being decided. Unknown names are null.
type names struct {
	values  Values
	outcome Outcome
}

var _ interpreter.Activation = names{}

// ResolveName implements interpreter.Activation.
func (n names) ResolveName(name string) (any, bool) {
	switch {
	case name == "state":
		return map[string]any(n.values), true
	case name == "intent" && n.outcome.HasIntent:
		return n.outcome.Intent, true
	}
	value, _ := n.values.Lookup(name)
	if v, ok := value.(Values); ok {
		return map[string]any(v), true
	}
	return value, true
}

// Parent implements interpreter.Activation.
func (n names) Parent() interpreter.Activation { return nil }
