package source

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
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

func TestDecodeJSONAgreesOnWhateverComes(t *testing.T) {
	piece := rapid.SampledFrom([]string{
		"{", "}", "[", "]", ",", ":", `"`, `"a"`, `"b":`, `\`, `\"`, `\n`, `\u`, `\u00e9`, `\ud83d`, `\ude00`, "0", "1", "-", "+", ".", "e", "E", "true", "false", "null",
		"nul", " ", "\n", "\t", "\x00", "\x1f", "é", "\xff", "\xe9", "😀", "\u2028", "12345678901234567890", "/",
	})
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(piece, 0, 12).Draw(t, "pieces"), "")
		want, wantErr := reference(text)
		got, err := decodeJSON(text)
		if (wantErr == nil) != (err == nil) {
			t.Fatalf("%q: %v, %v", text, wantErr, err)
		}
		require.Equal(t, want, got)
	})
}

func TestDecodeJSONRoundTrips(t *testing.T) {
	value := rapid.Custom(func(t *rapid.T) any { return randomJSON(t, 4) })
	rapid.Check(t, func(t *rapid.T) {
		raw, err := json.Marshal(value.Draw(t, "value"))
		require.NoError(t, err)
		want, err := reference(string(raw))
		require.NoError(t, err)
		got, err := decodeJSON(string(raw))
		require.NoError(t, err)
		require.Equal(t, want, got)
	})
}

func randomJSON(t *rapid.T, depth int) any {
	kinds := 4
	if depth > 0 {
		kinds = 6
	}
	switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
	case 0:
		return rapid.String().Draw(t, "string")
	case 1:
		return rapid.Float64Range(-1e9, 1e9).Draw(t, "number")
	case 2:
		return rapid.Bool().Draw(t, "bool")
	case 3:
		return nil
	case 4:
		out := []any{}
		for range rapid.IntRange(0, 4).Draw(t, "length") {
			out = append(out, randomJSON(t, depth-1))
		}
		return out
	default:
		out := map[string]any{}
		for range rapid.IntRange(0, 4).Draw(t, "size") {
			out[rapid.String().Draw(t, "key")] = randomJSON(t, depth-1)
		}
		return out
	}
}
