package workflow

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxSpecDepth bounds the nesting of a workflow document.
const maxSpecDepth = 64

// decodeAny decodes exactly one JSON value, with the results of encoding/json's UseNumber, in
// about a third of its time: every event of every execution passes through here. Objects are
// map[string]any, where the last of equal keys wins; invalid UTF-8 in strings becomes U+FFFD.
// The strings of the result share one copy of the document.
func decodeAny(doc []byte, depth int) (any, error) {
	d := decoder{s: string(doc), deepest: depth}
	v, err := d.value()
	if err != nil {
		return nil, err
	}
	if c := d.next(); c != 0 || d.pos < len(d.s) {
		return nil, d.fail("unexpected data after the JSON value")
	}
	return v, nil
}

// syntaxError is where and why a document is not JSON.
type syntaxError struct {
	offset int
	reason string
}

func (e *syntaxError) Error() string { return e.reason + " at offset " + strconv.Itoa(e.offset) }

// depthError is a document that nests too deep.
type depthError struct{ limit int }

func (e *depthError) Error() string { return fmt.Sprintf("nested deeper than %d levels", e.limit) }

type decoder struct {
	s       string
	pos     int
	depth   int
	deepest int
}

func (d *decoder) fail(reason string) error {
	if d.pos >= len(d.s) {
		return &syntaxError{offset: len(d.s), reason: "unexpected end of the document"}
	}
	return &syntaxError{offset: d.pos, reason: reason}
}

// next skips white space and returns the byte after it, or 0 at the end.
func (d *decoder) next() byte {
	for d.pos < len(d.s) {
		switch c := d.s[d.pos]; c {
		case ' ', '\t', '\n', '\r':
			d.pos++
		default:
			return c
		}
	}
	return 0
}

func (d *decoder) value() (any, error) {
	switch c := d.next(); c {
	case '{':
		return d.nested(d.object)
	case '[':
		return d.nested(d.array)
	case '"':
		return d.text()
	case 't':
		return true, d.word("true")
	case 'f':
		return false, d.word("false")
	case 'n':
		return nil, d.word("null")
	default:
		return d.number()
	}
}

func (d *decoder) nested(read func() (any, error)) (any, error) {
	if d.depth++; d.depth > d.deepest {
		return nil, &depthError{limit: d.deepest}
	}
	d.pos++
	v, err := read()
	d.depth--
	return v, err
}

func (d *decoder) word(word string) error {
	if !strings.HasPrefix(d.s[d.pos:], word) {
		return d.fail("invalid literal")
	}
	d.pos += len(word)
	return nil
}

func (d *decoder) object() (any, error) {
	m := make(map[string]any)
	if d.next() == '}' {
		d.pos++
		return m, nil
	}
	for {
		if d.next() != '"' {
			return nil, d.fail("expected a key in quotes")
		}
		key, err := d.text()
		if err != nil {
			return nil, err
		}
		if d.next() != ':' {
			return nil, d.fail("expected a colon after the key")
		}
		d.pos++
		if m[key], err = d.value(); err != nil {
			return nil, err
		}
		switch d.next() {
		case ',':
			d.pos++
		case '}':
			d.pos++
			return m, nil
		default:
			return nil, d.fail("expected a comma or the end of the object")
		}
	}
}

func (d *decoder) array() (any, error) {
	list := []any{}
	if d.next() == ']' {
		d.pos++
		return list, nil
	}
	for {
		v, err := d.value()
		if err != nil {
			return nil, err
		}
		list = append(list, v)
		switch d.next() {
		case ',':
			d.pos++
		case ']':
			d.pos++
			return list, nil
		default:
			return nil, d.fail("expected a comma or the end of the array")
		}
	}
}

func (d *decoder) number() (any, error) {
	start := d.pos
	end := start
	for end < len(d.s) && isNumberByte(d.s[end]) {
		end++
	}
	if !isNumber(d.s[start:end]) {
		return nil, d.fail("expected a value")
	}
	d.pos = end
	return json.Number(d.s[start:end]), nil
}

func isNumberByte(c byte) bool {
	return c >= '0' && c <= '9' || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E'
}

// text reads a string. What needs no change is a slice of the document.
func (d *decoder) text() (string, error) {
	d.pos++
	start := d.pos
	ascii := true
	for d.pos < len(d.s) {
		switch c := d.s[d.pos]; {
		case c == '"':
			s := d.s[start:d.pos]
			d.pos++
			if ascii || utf8.ValidString(s) {
				return s, nil
			}
			return string(appendValid(nil, s)), nil
		case c == '\\':
			return d.escaped(start)
		case c < 0x20:
			return "", d.fail("control character in a string")
		case c >= utf8.RuneSelf:
			ascii = false
		}
		d.pos++
	}
	return "", d.fail("")
}

// escaped goes on with a string from its first backslash.
func (d *decoder) escaped(start int) (string, error) {
	out := appendValid(make([]byte, 0, 2*(d.pos-start)+16), d.s[start:d.pos])
	for d.pos < len(d.s) {
		switch c := d.s[d.pos]; {
		case c == '"':
			d.pos++
			return string(out), nil
		case c == '\\':
			r, err := d.escape()
			if err != nil {
				return "", err
			}
			out = utf8.AppendRune(out, r)
		case c < 0x20:
			return "", d.fail("control character in a string")
		default:
			end := d.pos
			for end < len(d.s) && d.s[end] != '"' && d.s[end] != '\\' && d.s[end] >= 0x20 {
				end++
			}
			out = appendValid(out, d.s[d.pos:end])
			d.pos = end
		}
	}
	return "", d.fail("")
}

func (d *decoder) escape() (rune, error) {
	d.pos++
	if d.pos >= len(d.s) {
		return 0, d.fail("")
	}
	c := d.s[d.pos]
	if c == 'u' {
		return d.unicode()
	}
	const letters, meanings = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
	i := strings.IndexByte(letters, c)
	if i < 0 {
		return 0, d.fail("invalid escape in a string")
	}
	d.pos++
	return rune(meanings[i]), nil
}

// unicode reads uXXXX, and the second half of a surrogate pair when it follows.
func (d *decoder) unicode() (rune, error) {
	r, ok := d.hex(d.pos + 1)
	if !ok {
		return 0, d.fail("invalid escape in a string")
	}
	d.pos += 5
	if !utf16.IsSurrogate(r) {
		return r, nil
	}
	if strings.HasPrefix(d.s[d.pos:], `\u`) {
		if second, ok := d.hex(d.pos + 2); ok {
			if pair := utf16.DecodeRune(r, second); pair != utf8.RuneError {
				d.pos += 6
				return pair, nil
			}
		}
	}
	return utf8.RuneError, nil
}

func (d *decoder) hex(at int) (rune, bool) {
	if at+4 > len(d.s) {
		return 0, false
	}
	n, err := strconv.ParseUint(d.s[at:at+4], 16, 16)
	return rune(n), err == nil
}

// appendValid appends s with U+FFFD for every byte that is not UTF-8.
func appendValid(dst []byte, s string) []byte {
	for _, r := range s {
		dst = utf8.AppendRune(dst, r)
	}
	return dst
}
