package daemon

import (
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	"go.uber.org/zap"
)

// Usage writes how to run the service and every variable it reads, from the tags of C.
func Usage[C any](w io.Writer, name string) error {
	var cfg C
	var b strings.Builder
	fmt.Fprintf(&b, `%s %s

Usage:
  %[1]s              run until SIGTERM
  %[1]s healthcheck  exit 0 when the service on this machine is ready, 1 when it is not
  %[1]s --version    print the version
  %[1]s --help       print this

Environment:
`, name, Version())
	for _, v := range variables(&cfg) {
		fmt.Fprintf(&b, "  %s%s\n      %s\n", v.name, v.traits(), v.help)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// traits is what stands beside a variable's name in the usage.
func (v *variable) traits() string {
	var traits []string
	if v.required {
		traits = append(traits, "required")
	}
	if v.fallback != "" {
		traits = append(traits, "default "+v.fallback)
	}
	if v.secret {
		traits = append(traits, "secret, or "+v.name+"_FILE")
	}
	for _, c := range v.checks {
		switch c.name {
		case "oneof":
			traits = append(traits, strings.Join(strings.Fields(c.arg), "|"))
		case "min", "max":
			traits = append(traits, c.name+" "+c.arg)
		}
	}
	if len(traits) == 0 {
		return ""
	}
	return "  (" + strings.Join(traits, ", ") + ")"
}

// Setting is one variable as it came out, safe to print.
type Setting struct {
	Variable string
	Value    string
}

// Masked lists the settings of cfg with secrets masked, in the order of the fields.
func Masked[C any](cfg C) []Setting {
	vars := variables(&cfg)
	settings := make([]Setting, 0, len(vars))
	for _, v := range vars {
		settings = append(settings, Setting{v.name, v.show(v.text())})
	}
	return settings
}

// Secrets lists the values in cfg that must not be printed anywhere; see [Runtime.Mask].
func Secrets[C any](cfg C) []string {
	var secrets []string
	for _, v := range variables(&cfg) {
		if text := v.text(); v.secret && text != "" {
			secrets = append(secrets, text)
		}
	}
	return secrets
}

// text is the field's value as text; empty for a pointer that is nil.
func (v *variable) text() string {
	value := v.value
	if value.Kind() == reflect.Pointer {
		if value.IsNil() {
			return ""
		}
		value = value.Elem()
	}
	if list, ok := value.Interface().([]string); ok {
		return strings.Join(list, v.separator())
	}
	return fmt.Sprint(value.Interface())
}

// settingFields are the settings as log fields.
func settingFields(settings []Setting) []zap.Field {
	fields := make([]zap.Field, 0, len(settings))
	for _, s := range settings {
		fields = append(fields, zap.String(s.Variable, s.Value))
	}
	return fields
}

// misspelt pairs variables that are set but that nothing reads with a variable that is one slip away, read, and
// not set, such as LOG_LEVL. It is a hint for the log, not a problem: the environment is not ours alone.
func misspelt[C any](environ []string) []Setting {
	var cfg C
	env := environment(environ)
	known := make(map[string]bool)
	for _, v := range variables(&cfg) {
		known[v.name] = true
		if v.secret {
			known[v.name+"_FILE"] = true
		}
	}
	var hints []Setting
	for name := range env {
		if known[name] {
			continue
		}
		for meant := range known {
			if _, set := env[meant]; !set && oneSlip(name, meant) {
				hints = append(hints, Setting{Variable: name, Value: meant})
			}
		}
	}
	slices.SortFunc(hints, func(a, b Setting) int {
		return strings.Compare(a.Variable+" "+a.Value, b.Variable+" "+b.Value)
	})
	return hints
}

// oneSlip says whether a becomes b by one letter added, left out or changed, or by two neighbours swapped.
func oneSlip(a, b string) bool {
	const short = 6 // below this, neighbours are other people's variables
	if len(a) < short || len(b) < short {
		return false
	}
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	a, b = a[i:], b[i:]
	switch {
	case len(a) == len(b)+1:
		return a[1:] == b
	case len(b) == len(a)+1:
		return b[1:] == a
	case len(a) != len(b) || a == "":
		return false
	case a[1:] == b[1:]:
		return true
	default:
		return len(a) > 1 && a[0] == b[1] && a[1] == b[0] && a[2:] == b[2:]
	}
}
