package source

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// value makes a JSON-safe value of a column's text form.
func (q postgresQuery) value(oid uint32, raw []byte) (any, error) {
	if raw == nil {
		return nil, nil
	}
	text := string(raw)
	switch oid {
	case pgtype.BoolOID:
		return text == "t", nil
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.OIDOID, pgtype.XIDOID, pgtype.CIDOID,
		pgtype.NumericOID, pgtype.Float4OID, pgtype.Float8OID:
		return number(text), nil
	case pgtype.TimestampOID, pgtype.TimestamptzOID:
		return postgresTime(text), nil
	case pgtype.ByteaOID:
		return postgresBytes(text)
	case pgtype.JSONOID, pgtype.JSONBOID:
		v, err := decodeJSON(text)
		if err != nil {
			return text, nil //nolint:nilerr // the server calls it JSON; if we cannot read it, its text is all there is
		}
		return v, nil
	}
	if t, ok := q.types.TypeForOID(oid); ok {
		if array, ok := t.Codec.(*pgtype.ArrayCodec); ok {
			delimiter := byte(',')
			if array.ElementType.OID == pgtype.BoxOID {
				delimiter = ';'
			}
			return q.array(text, array.ElementType.OID, delimiter)
		}
	}
	return strings.ToValidUTF8(text, "\uFFFD"), nil
}

// number keeps a number exactly as the server wrote it; NaN and the infinities are not JSON.
func number(text string) any {
	switch text {
	case "NaN", "Infinity", "-Infinity":
		return text
	}
	return json.Number(text)
}

// postgresTime turns 2025-01-31 12:00:00.5+00 into RFC 3339. A timestamp without a zone is read
// as UTC; infinity and years that RFC 3339 cannot write stay as they are.
func postgresTime(text string) string {
	for _, layout := range []string{"2006-01-02 15:04:05.999999999Z07", "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC().Format(time.RFC3339Nano)
		}
	}
	return text
}

func postgresBytes(text string) (string, error) {
	digits, ok := strings.CutPrefix(text, `\x`)
	if !ok {
		return "", errors.New("bytes are not in hex")
	}
	raw, err := hex.DecodeString(digits)
	if err != nil {
		return "", fmt.Errorf("bytes are not in hex: %w", err)
	}
	return base64.StdEncoding.EncodeToString(raw), nil
}

// array reads the text form of an array: {1,NULL,{"a b"}} or [0:1]={1,2}.
func (q postgresQuery) array(text string, element uint32, delimiter byte) (any, error) {
	if text != "" && text[0] == '[' { // bounds other than the usual say nothing in JSON
		_, after, ok := strings.Cut(text, "=")
		if !ok {
			return text, nil
		}
		text = after
	}
	r := arrayReader{text: text, element: element, delimiter: delimiter, value: q.value}
	list, err := r.list()
	if err != nil {
		return nil, err
	}
	return list, nil
}

// arrayReader reads the text form of an array.
type arrayReader struct {
	text      string
	pos       int
	element   uint32
	delimiter byte
	value     func(oid uint32, raw []byte) (any, error)
}

var errArray = errors.New("an array that cannot be read")

func (r *arrayReader) list() ([]any, error) {
	if r.pos >= len(r.text) || r.text[r.pos] != '{' {
		return nil, errArray
	}
	r.pos++
	out := []any{}
	for r.pos < len(r.text) {
		switch c := r.text[r.pos]; c {
		case '}':
			r.pos++
			return out, nil
		case r.delimiter:
			r.pos++
		case '{':
			inner, err := r.list()
			if err != nil {
				return nil, err
			}
			out = append(out, inner)
		default:
			item, err := r.item(c == '"')
			if err != nil {
				return nil, err
			}
			out = append(out, item)
		}
	}
	return nil, errArray
}

func (r *arrayReader) item(quoted bool) (any, error) {
	if !quoted {
		start := r.pos
		for r.pos < len(r.text) && r.text[r.pos] != r.delimiter && r.text[r.pos] != '}' {
			r.pos++
		}
		text := r.text[start:r.pos]
		if strings.EqualFold(text, "NULL") {
			return nil, nil
		}
		return r.value(r.element, []byte(text))
	}
	var b []byte
	for r.pos++; r.pos < len(r.text); r.pos++ {
		switch c := r.text[r.pos]; {
		case c == '\\' && r.pos+1 < len(r.text):
			r.pos++
			b = append(b, r.text[r.pos])
		case c == '"':
			r.pos++
			if b == nil {
				b = []byte{}
			}
			return r.value(r.element, b)
		default:
			b = append(b, c)
		}
	}
	return nil, errArray
}
