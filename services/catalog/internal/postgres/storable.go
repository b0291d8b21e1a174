package postgres

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"unicode/utf8"
)

// What the log holds must never stop the projector, and Postgres takes less than JSON allows: no
// U+0000, no half of a surrogate pair, numbers of limited size, limited depth. What does not fit
// is replaced here; the archive keeps it byte for byte.

const (
	maxDepth    = 1000 // levels; Postgres gives up somewhere above 6000, depending on its stack
	maxExponent = 1000 // of a number; Postgres gives up at 131072 digits
)

var decimal = regexp.MustCompile(`^-?[0-9]{1,300}(\.[0-9]{1,300})?$`)

// Decimal is s if Postgres can read it as a decimal number, else "0".
func Decimal(s string) string {
	if decimal.MatchString(s) {
		return s
	}
	return "0"
}

// Text is s as a text column can hold it.
func Text(s string) string {
	if clean(s) {
		return s
	}
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// JSON is raw as a jsonb column can hold it: the same bytes, unless something in them must be
// replaced. What cannot be read at all becomes {"unstorable":true}.
func JSON(raw json.RawMessage) json.RawMessage {
	if plainJSON(raw) {
		return raw
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return json.RawMessage(`{"unstorable":true}`)
	}
	out, err := json.Marshal(storable(v, 0))
	if err != nil {
		return json.RawMessage(`{"unstorable":true}`)
	}
	return out
}

// plainJSON tells that there is nothing to replace. It may err on the safe side.
func plainJSON(raw []byte) bool {
	depth, digits, inString := 0, 0, false
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		switch {
		case c == '\\' && inString:
			if i+1 < len(raw) && raw[i+1] == 'u' && i+5 < len(raw) {
				if h := raw[i+2 : i+6]; h[0] == '0' && h[1] == '0' && h[2] == '0' && h[3] == '0' || (h[0] == 'd' || h[0] == 'D') && h[1] >= '8' {
					return false
				}
			}
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c >= '0' && c <= '9':
			if digits++; digits > maxExponent {
				return false
			}
			continue
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return false
			}
		case c == '}' || c == ']':
			depth--
		case c == 'e' || c == 'E':
			// A number with an exponent, or one of true and false: look closer only at the former.
			if i > 0 && (raw[i-1] >= '0' && raw[i-1] <= '9' || raw[i-1] == '.') {
				return false
			}
		}
		digits = 0
	}
	return utf8.Valid(raw) && json.Valid(raw) // in which there are no control characters
}

func storable(v any, depth int) any {
	if depth >= maxDepth {
		return "nested too deeply"
	}
	switch v := v.(type) {
	case string:
		return Text(v)
	case json.Number:
		return storableNumber(v)
	case []any:
		for i := range v {
			v[i] = storable(v[i], depth+1)
		}
		return v
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, item := range v {
			out[Text(k)] = storable(item, depth+1)
		}
		return out
	}
	return v
}

// storableNumber is a number, or its text where it is too long or too large for Postgres.
func storableNumber(n json.Number) any {
	s := string(n)
	if len(s) > maxExponent {
		return s[:maxExponent]
	}
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		exponent := strings.TrimLeft(s[i+1:], "+-0")
		if len(exponent) > 3 {
			return s
		}
	}
	return n
}
