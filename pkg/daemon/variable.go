package daemon

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
)

// variable is one leaf of a Config: an environment variable and the field it sets.
type variable struct {
	name      string
	fallback  string // default, as text
	help      string
	checks    []check
	required  bool
	secret    bool
	keepEmpty bool
	field     reflect.StructField
	value     reflect.Value
}

// check is one rule of a check tag.
type check struct{ name, arg string }

var durationType = reflect.TypeFor[time.Duration]()

// variables walks the fields of *cfg, structs inside it included, in order.
func variables(cfg any) []variable {
	v := reflect.ValueOf(cfg).Elem()
	if v.Kind() != reflect.Struct {
		panic(fmt.Sprintf("daemon: configuration must be a struct, not %s", v.Type()))
	}
	vars := walk(nil, v, "")
	if d, ok := cfg.(defaulter); ok {
		override(vars, d.Defaults())
	}
	seen := make(map[string]bool, len(vars))
	for _, x := range vars {
		if seen[x.name] {
			panic("daemon: variable " + x.name + " belongs to two fields")
		}
		seen[x.name] = true
	}
	return vars
}

func walk(vars []variable, v reflect.Value, prefix string) []variable {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("env"), ",")
		switch {
		case !f.IsExported() || name == "-":
		case name != "":
			vars = append(vars, newVariable(prefix+name, f, v.Field(i)))
		case f.Type.Kind() == reflect.Struct:
			vars = walk(vars, v.Field(i), prefix+f.Tag.Get("envPrefix"))
		}
	}
	return vars
}

func newVariable(name string, f reflect.StructField, v reflect.Value) variable {
	x := variable{
		name:      name,
		fallback:  f.Tag.Get("envDefault"),
		help:      f.Tag.Get("help"),
		secret:    f.Tag.Get("secret") == "true",
		keepEmpty: f.Tag.Get("empty") == "keep",
		field:     f,
		value:     v,
	}
	if x.help == "" {
		panic("daemon: variable " + name + " has no help tag")
	}
	for rule := range strings.SplitSeq(f.Tag.Get("check"), ",") {
		switch name, arg, _ := strings.Cut(rule, "="); name {
		case "":
		case "required":
			x.required = true
		case "min", "max", "oneof", "hostport", "url", "file":
			x.checks = append(x.checks, check{name, arg})
		default:
			panic(fmt.Sprintf("daemon: variable %s has an unknown check %q", x.name, name))
		}
	}
	return x
}

func override(vars []variable, defaults map[string]string) {
	for name, text := range defaults {
		i := slices.IndexFunc(vars, func(x variable) bool { return x.name == name })
		if i < 0 {
			panic("daemon: Defaults names " + name + ", which no field reads")
		}
		vars[i].fallback = text
	}
}

// parse sets the field from text. Each field is parsed alone, so that an error has one variable to name.
func (v *variable) parse(text string) error {
	const one = "V"
	single := reflect.New(reflect.StructOf([]reflect.StructField{{
		Name: "V",
		Type: v.field.Type,
		Tag:  reflect.StructTag(fmt.Sprintf(`env:%q envSeparator:%q`, one, v.separator())),
	}}))
	err := env.ParseWithOptions(single.Interface(), env.Options{
		Environment: map[string]string{one: text},
		FuncMap:     map[reflect.Type]env.ParserFunc{durationType: parseDuration},
	})
	if err != nil {
		return err
	}
	v.value.Set(single.Elem().Field(0))
	return nil
}

func (v *variable) separator() string {
	if s := v.field.Tag.Get("envSeparator"); s != "" {
		return s
	}
	return ","
}

// parseDuration takes what Go writes, and a bare number as seconds.
func parseDuration(text string) (any, error) {
	if seconds, err := strconv.ParseFloat(text, 64); err == nil {
		const most = float64(1 << 63 / 1e9)
		if seconds != seconds || seconds > most-1 || seconds < 1-most {
			return nil, fmt.Errorf("%q seconds do not fit a duration", text)
		}
		return time.Duration(seconds * float64(time.Second)), nil
	}
	return time.ParseDuration(text)
}

// base is the field's type behind a pointer.
func (v *variable) base() reflect.Type {
	if v.field.Type.Kind() == reflect.Pointer {
		return v.field.Type.Elem()
	}
	return v.field.Type
}

// custom says that the field's type parses itself, so that its error is worth showing.
func (v *variable) custom() bool { return v.base().PkgPath() != "" && v.base() != durationType }

// kind names what the field holds, for people.
func (v *variable) kind() string {
	if v.base() == durationType {
		return "a duration such as 1m30s, or a number of seconds"
	}
	switch v.base().Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number, not negative"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice:
		return "a list separated by " + strconv.Quote(v.separator())
	default:
		return "valid"
	}
}

// broken is the first rule that the value, parsed from text, does not keep; empty when it keeps them all.
func (v *variable) broken(text string) string {
	for _, c := range v.checks {
		if rule, ok := v.keeps(c, text); !ok {
			return rule
		}
	}
	return ""
}

func (v *variable) keeps(c check, text string) (rule string, ok bool) {
	switch c.name {
	case "min":
		return "must be at least " + c.arg, v.number(text) >= v.number(c.arg)
	case "max":
		return "must be at most " + c.arg, v.number(text) <= v.number(c.arg)
	case "oneof":
		words := strings.Fields(c.arg)
		return "must be one of " + strings.Join(words, ", "), slices.Contains(words, text)
	case "hostport":
		return "must be host:port, such as 127.0.0.1:9090 or :9090", isHostPort(text)
	case "url":
		schemes := strings.Fields(c.arg)
		return "must be a URL that starts with " + strings.Join(schemes, ":// or ") + "://", isURL(text, schemes)
	default: // file; newVariable let nothing else through
		return "must name a readable file", isFile(text)
	}
}

// number is text as a number that can be compared: seconds for a duration. Text that is none is NaN, which no
// comparison accepts.
func (v *variable) number(text string) float64 {
	if v.base() == durationType {
		d, err := parseDuration(text)
		if err != nil {
			panic(fmt.Sprintf("daemon: variable %s compares with %q, which is no duration", v.name, text))
		}
		return d.(time.Duration).Seconds() //nolint:forcetypeassert,errcheck // parseDuration returns nothing else
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		panic(fmt.Sprintf("daemon: variable %s compares with %q, which is no number", v.name, text))
	}
	return n
}

func isHostPort(text string) bool {
	_, port, err := net.SplitHostPort(text)
	if err != nil {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n <= 65535
}

func isURL(text string, schemes []string) bool {
	u, err := url.Parse(text)
	return err == nil && slices.Contains(schemes, u.Scheme) && u.Host != ""
}

func isFile(text string) bool {
	f, err := os.Open(text)
	if err != nil {
		return false
	}
	info, err := f.Stat()
	return f.Close() == nil && err == nil && !info.IsDir()
}
