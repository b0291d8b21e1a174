package source

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// reference is what encoding/json makes of a text.
func reference(text string) (any, error) {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("text after the value")
	}
	return v, nil
}

var jsonTexts = []string{
	`{}`, `[]`, `null`, `true`, `false`, `0`, `-0`, `1.50e+10`, `-12.5E-3`, `12345678901234567890`, `""`, `"a"`, ` { "a" : [ 1 , { "b" : null } ] } `,
	`"\"\\\/\b\f\n\r\t\u00e9\uD83D\ude00"`, `"\ud800"`, `"\ud800\u0041"`, `"\ud800\n"`, `{"a":1,"a":2}`, "\"\xff\xfe é\"", `"é😀"`, `{"\u0061":1}`,
	``, ` `, `{`, `[`, `"`, `"\`, `"\u12`, `"\u12g4"`, `"\x"`, `01`, `1.`, `.5`, `-`, `1e`, `1e+`, `+1`, `tru`, `nul`, `[1,]`, `[,1]`, `[1 2]`,
	`{"a"}`, `{"a":}`, `{"a":1,}`, `{a:1}`, `{"a":1 "b":2}`, "\"\n\"", "\"\x00\"", `1 2`, `{} {}`, "\ufeff{}", `NaN`, `'a'`, `[1]x`, "\v1",
}

func TestDecodeJSONAgreesWithEncodingJSON(t *testing.T) {
	for _, text := range jsonTexts {
		want, wantErr := reference(text)
		got, err := decodeJSON(text)
		require.Equal(t, wantErr == nil, err == nil, "%q: %v, %v", text, wantErr, err)
		require.Equal(t, want, got, "%q", text)
	}
	_, err := decodeJSON(strings.Repeat("[", 100_000))
	require.ErrorContains(t, err, "deeply")
}

func FuzzDecodeJSON(f *testing.F) {
	for _, text := range jsonTexts {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Count(text, "[")+strings.Count(text, "{") > maxJSONDepth {
			return
		}
		want, wantErr := reference(text)
		got, err := decodeJSON(text)
		if (wantErr == nil) != (err == nil) {
			t.Fatalf("%q: %v, %v", text, wantErr, err)
		}
		require.Equal(t, want, got)
	})
}
