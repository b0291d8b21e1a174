package source

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// decodeJSON reads one JSON value; numbers stay as they were written.
//
// encoding/json copies its input, every string and every number: for an answer of a megabyte it
// allocates ten. Here strings and numbers are pieces of the text itself, so that the text is
// most of what a decoded answer holds. The two agree on what is JSON, which a test checks.
func decodeJSON(text string) (any, error) {
	d := jsonDecoder{text: text}
	d.space()
	v, err := d.value(0)
	if err != nil {
		return nil, err
	}
	if d.space(); d.pos < len(d.text) {
		return nil, d.fail("text after the value")
	}
	return v, nil
}

// maxJSONDepth bounds nesting: every level is a call.
const maxJSONDepth = 1000

type jsonDecoder struct {
	text string
	pos  int
}

func (d *jsonDecoder) fail(what string) error {
	return fmt.Errorf("%s at byte %d", what, d.pos)
}

func (d *jsonDecoder) space() {
	for d.pos < len(d.text) {
		switch d.text[d.pos] {
		case ' ', '\t', '\r', '\n':
			d.pos++
		default:
			return
		}
	}
}

// take moves past c, if it is next.
func (d *jsonDecoder) take(c byte) bool {
	if d.pos < len(d.text) && d.text[d.pos] == c {
		d.pos++
		return true
	}
	return false
}

func (d *jsonDecoder) value(depth int) (any, error) {
	if d.pos >= len(d.text) {
		return nil, d.fail("the text ends early")
	}
	if depth > maxJSONDepth {
		return nil, d.fail("nested too deeply")
	}
	switch c := d.text[d.pos]; {
	case c == '{':
		return d.object(depth)
	case c == '[':
		return d.array(depth)
	case c == '"':
		return d.str()
	case c == '-' || c >= '0' && c <= '9':
		return d.number()
	case d.word("true"):
		return true, nil
	case d.word("false"):
		return false, nil
	case d.word("null"):
		return nil, nil
	}
	return nil, d.fail("not a JSON value")
}

func (d *jsonDecoder) word(w string) bool {
	if strings.HasPrefix(d.text[d.pos:], w) {
		d.pos += len(w)
		return true
	}
	return false
}

func (d *jsonDecoder) object(depth int) (any, error) {
	d.pos++
	out := map[string]any{}
	d.space()
	if d.take('}') {
		return out, nil
	}
	for {
		d.space()
		if d.pos >= len(d.text) || d.text[d.pos] != '"' {
			return nil, d.fail("a key is missing")
		}
		key, err := d.str()
		if err != nil {
			return nil, err
		}
		if d.space(); !d.take(':') {
			return nil, d.fail("a colon is missing")
		}
		d.space()
		value, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		out[key] = value
		d.space()
		switch {
		case d.take(','):
		case d.take('}'):
			return out, nil
		default:
			return nil, d.fail("a comma or } is missing")
		}
	}
}

func (d *jsonDecoder) array(depth int) (any, error) {
	d.pos++
	out := []any{}
	d.space()
	if d.take(']') {
		return out, nil
	}
	for {
		d.space()
		value, err := d.value(depth + 1)
		if err != nil {
			return nil, err
		}
		out = append(out, value)
		d.space()
		switch {
		case d.take(','):
		case d.take(']'):
			return out, nil
		default:
			return nil, d.fail("a comma or ] is missing")
		}
	}
}

func (d *jsonDecoder) number() (any, error) {
	start := d.pos
	d.take('-')
	if !d.take('0') && d.digits() == 0 {
		return nil, d.fail("a number without digits")
	}
	if d.take('.') && d.digits() == 0 {
		return nil, d.fail("a fraction without digits")
	}
	if d.take('e') || d.take('E') {
		if !d.take('+') {
			d.take('-')
		}
		if d.digits() == 0 {
			return nil, d.fail("an exponent without digits")
		}
	}
	return json.Number(d.text[start:d.pos]), nil
}

func (d *jsonDecoder) digits() int {
	start := d.pos
	for d.pos < len(d.text) && d.text[d.pos] >= '0' && d.text[d.pos] <= '9' {
		d.pos++
	}
	return d.pos - start
}

// str reads a string. One without escapes, which most are, is a piece of the text.
func (d *jsonDecoder) str() (string, error) {
	d.pos++
	start := d.pos
	for d.pos < len(d.text) {
		switch c := d.text[d.pos]; {
		case c == '"':
			s := d.text[start:d.pos]
			d.pos++
			return s, nil
		case c == '\\' || c < ' ':
			return d.escaped(start)
		case c < utf8.RuneSelf:
			d.pos++
		default:
			r, size := utf8.DecodeRuneInString(d.text[d.pos:])
			if r == utf8.RuneError && size == 1 {
				return d.escaped(start)
			}
			d.pos += size
		}
	}
	return "", d.fail("a string without an end")
}

// escaped reads the rest of a string that has to be rewritten.
func (d *jsonDecoder) escaped(start int) (string, error) {
	b := []byte(d.text[start:d.pos])
	for d.pos < len(d.text) {
		switch c := d.text[d.pos]; {
		case c == '"':
			d.pos++
			return string(b), nil
		case c < ' ':
			return "", d.fail("a control character in a string")
		case c == '\\':
			r, err := d.escape()
			if err != nil {
				return "", err
			}
			b = utf8.AppendRune(b, r)
		default:
			r, size := utf8.DecodeRuneInString(d.text[d.pos:])
			b = utf8.AppendRune(b, r) // a byte that is no UTF-8 becomes U+FFFD
			d.pos += size
		}
	}
	return "", d.fail("a string without an end")
}

func (d *jsonDecoder) escape() (rune, error) {
	if d.pos+1 >= len(d.text) {
		return 0, d.fail("a string without an end")
	}
	c := d.text[d.pos+1]
	if c == 'u' {
		r, ok := d.hex(d.pos + 2)
		if !ok {
			return 0, d.fail("a broken escape")
		}
		d.pos += 6
		if !utf16.IsSurrogate(r) {
			return r, nil
		}
		if strings.HasPrefix(d.text[d.pos:], `\u`) {
			if low, ok := d.hex(d.pos + 2); ok {
				if both := utf16.DecodeRune(r, low); both != utf8.RuneError {
					d.pos += 6
					return both, nil
				}
			}
		}
		return utf8.RuneError, nil
	}
	at := strings.IndexByte(`"\/bfnrt`, c)
	if at < 0 {
		return 0, d.fail("a broken escape")
	}
	d.pos += 2
	return rune("\"\\/\b\f\n\r\t"[at]), nil
}

func (d *jsonDecoder) hex(at int) (rune, bool) {
	if at+4 > len(d.text) {
		return 0, false
	}
	var r rune
	for _, c := range []byte(d.text[at : at+4]) {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}
