package daemon

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"
)

// masked stands wherever a secret would have been printed.
const masked = "***MASKED***"

// Common holds the variables every service reads. Embed it in the service's Config.
type Common struct {
	LogLevel  string `env:"LOG_LEVEL" envDefault:"info" check:"oneof=debug info warn error" help:"least severe level that is logged; change it while running with PUT /log_level on the admin port"`
	LogFormat string `env:"LOG_FORMAT" envDefault:"json" check:"oneof=json console" help:"json, one object a line, or console, for people"`

	AdminAddr       string        `env:"ADMIN_ADDR" envDefault:"127.0.0.1:9090" check:"hostport" help:"address of the admin port: health, metrics, pprof, log level; keep it off public networks"`
	ShutdownTimeout time.Duration `env:"SHUTDOWN_TIMEOUT_SECONDS" envDefault:"25" check:"min=1s,max=1h" help:"time that work in hand gets to finish after SIGTERM"`
	ShutdownDelay   time.Duration `env:"SHUTDOWN_DELAY_SECONDS" envDefault:"0" check:"min=0s,max=10m" help:"time between readiness saying draining and intake closing, for load balancers to notice"`

	SentryDSN              string   `env:"SENTRY_DSN" check:"url=http https" secret:"true" help:"where errors are reported; empty: nowhere"`
	SentryEnvironment      string   `env:"SENTRY_ENVIRONMENT" envDefault:"development" help:"environment named in error reports and traces"`
	SentryRelease          string   `env:"SENTRY_RELEASE" help:"release named in error reports; empty: agentflow@<version>"`
	SentrySampleRate       *float64 `env:"SENTRY_SAMPLE_RATE" check:"min=0,max=1" help:"share of errors reported, 0 to 1; empty: 1 in production, 0 in development, else 1"`
	SentryTracesSampleRate float64  `env:"SENTRY_TRACES_SAMPLE_RATE" envDefault:"0" check:"min=0,max=1" help:"share of traces sent to Sentry, 0 to 1"`

	OTLPEndpoint   string  `env:"OTEL_EXPORTER_OTLP_ENDPOINT" check:"url=http https" help:"base URL of an OTLP/HTTP collector for traces; empty: none"`
	TracesSampling float64 `env:"OTEL_TRACES_SAMPLER_ARG" envDefault:"1" check:"min=0,max=1" help:"share of new traces sent to the collector, 0 to 1; a caller's decision is respected"`
}

// common is how Main finds these fields in a service's Config: promotion through embedding.
func (c Common) common() Common { return c }

// sampleRate is the share of errors to report. Development is quiet unless asked.
func (c Common) sampleRate() float64 {
	switch {
	case c.SentrySampleRate != nil:
		return *c.SentrySampleRate
	case c.SentryEnvironment == "development":
		return 0
	default:
		return 1
	}
}

// Config is any struct that embeds Common.
type Config interface {
	common() Common
}

// defaulter lets a Config set another default for a variable that it shares with others, such as ADMIN_ADDR.
type defaulter interface {
	Defaults() map[string]string
}

// validator lets a Config, or a struct inside it, check what tags cannot: rules across fields. An error may be a
// *Problem to name the variable.
type validator interface {
	Validate() []error
}

// Problem is one thing wrong with the configuration.
type Problem struct {
	Variable string // name of the environment variable; empty when the rule spans several
	Value    string // as given, masked for secrets; empty when not set
	Rule     string // what the value must be
	Fix      string // what to do about it
}

func (p *Problem) Error() string {
	var b strings.Builder
	if p.Variable != "" {
		b.WriteString(p.Variable)
		if p.Value != "" {
			fmt.Fprintf(&b, "=%q", p.Value)
		}
		b.WriteString(": ")
	}
	b.WriteString(p.Rule)
	if p.Fix != "" {
		b.WriteString("; " + p.Fix)
	}
	return b.String()
}

// ConfigError lists every problem of a configuration, in the order of the fields.
type ConfigError struct {
	Problems []*Problem
}

func (e *ConfigError) Error() string {
	lines := make([]string, 0, len(e.Problems)+1)
	lines = append(lines, fmt.Sprintf("configuration: %d problem(s)", len(e.Problems)))
	for _, p := range e.Problems {
		lines = append(lines, "  "+p.Error())
	}
	return strings.Join(lines, "\n")
}

// Load reads C from environ, a list of NAME=value as os.Environ gives it; of two entries for a name the later
// counts. All problems are found before it returns them, as a *ConfigError.
//
// Tags: env names the variable and envDefault its default. help says what it is for. check holds rules separated
// by commas: min=, max= (numbers, durations), oneof= (words), hostport, url= (schemes), file (must be readable),
// required. secret:"true" masks the value wherever it is printed, and lets NAME_FILE name a file that holds it.
// An empty variable counts as not set, since compose files and manifests are full of those, except with
// empty:"keep", where empty is a value of its own. Durations are 1m30s, or a bare number of seconds.
//
// C, and any struct in it, may have a method Validate() []error for rules across fields, and C a method
// Defaults() map[string]string. A wrong tag is a programming error and panics.
func Load[C any](environ []string) (C, error) {
	var cfg C
	env := environment(environ)
	vars := variables(&cfg)

	var problems []*Problem
	for i := range vars {
		if p := vars[i].load(env); p != nil {
			problems = append(problems, p)
		}
	}
	problems = append(problems, validate(reflect.ValueOf(&cfg).Elem())...)
	if len(problems) > 0 {
		return cfg, &ConfigError{Problems: distinct(problems)}
	}
	return cfg, nil
}

// environment turns NAME=value entries into a map.
func environment(environ []string) map[string]string {
	env := make(map[string]string, len(environ))
	for _, entry := range environ {
		if name, value, ok := strings.Cut(entry, "="); ok && name != "" {
			env[name] = value
		}
	}
	return env
}

// load sets the field from env or its default. On a problem the field keeps its default, so that rules across
// fields do not complain about consequences.
func (v *variable) load(env map[string]string) *Problem {
	text, problem := v.lookup(env)
	if problem == nil && text != "" {
		problem = v.set(text)
	}
	if problem == nil && text == "" && v.required {
		problem = &Problem{Variable: v.name, Rule: "is required and not set", Fix: v.fix()}
	}
	if problem != nil || (text == "" && !v.kept(env)) {
		if p := v.set(v.fallback); v.fallback != "" && p != nil {
			panic(fmt.Sprintf("daemon: default of %s is not valid: %v", v.name, p))
		}
	}
	return problem
}

// lookup is the variable's text: its own, or for a secret the content of the file that NAME_FILE names.
func (v *variable) lookup(env map[string]string) (string, *Problem) {
	text := env[v.name]
	path := env[v.name+"_FILE"]
	if !v.secret || path == "" {
		return text, nil
	}
	if text != "" {
		return "", &Problem{Variable: v.name, Value: masked, Rule: "is set twice, also as " + v.name + "_FILE", Fix: "keep one of them"}
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return "", &Problem{Variable: v.name + "_FILE", Value: path, Rule: "must name a readable file", Fix: err.Error()}
	}
	return strings.TrimRight(string(content), "\r\n"), nil
}

// kept says that the variable is set to nothing, and means it.
func (v *variable) kept(env map[string]string) bool {
	_, set := env[v.name]
	return v.keepEmpty && set
}

// set parses text into the field and applies the checks.
func (v *variable) set(text string) *Problem {
	if text == "" {
		return nil
	}
	problem := &Problem{Variable: v.name, Value: v.show(text)}
	if err := v.parse(text); err != nil {
		problem.Rule = "must be " + v.kind()
		if v.custom() && !v.secret {
			problem.Rule = err.Error()
		}
		problem.Fix = v.fix()
		return problem
	}
	if rule := v.broken(text); rule != "" {
		problem.Rule, problem.Fix = rule, v.fix()
		return problem
	}
	return nil
}

// show is text as it may be printed: secrets masked, and the password of any URL.
func (v *variable) show(text string) string {
	if text == "" {
		return ""
	}
	if v.secret {
		return masked
	}
	return scrubText(text)
}

func (v *variable) fix() string {
	if v.fallback != "" {
		return fmt.Sprintf("correct it, or leave it out for %s", v.show(v.fallback))
	}
	if v.required {
		return "set it: " + v.help
	}
	return "correct it, or leave it out"
}

// validate calls the Validate method of a struct and of the structs in it.
func validate(v reflect.Value) []*Problem {
	var problems []*Problem
	if check, ok := v.Addr().Interface().(validator); ok {
		for _, err := range check.Validate() {
			var p *Problem
			if !errors.As(err, &p) {
				p = &Problem{Rule: err.Error()}
			}
			problems = append(problems, p)
		}
	}
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.IsExported() && f.Tag.Get("env") == "" && f.Type.Kind() == reflect.Struct {
			problems = append(problems, validate(v.Field(i))...)
		}
	}
	return problems
}

// distinct drops repeats: an embedded struct's Validate is promoted, so it may be called twice.
func distinct(problems []*Problem) []*Problem {
	seen := make(map[Problem]bool, len(problems))
	kept := problems[:0]
	for _, p := range problems {
		if !seen[*p] {
			seen[*p] = true
			kept = append(kept, p)
		}
	}
	return kept
}
