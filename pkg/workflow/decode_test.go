package workflow

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

// standardDecode is decodeAny by the standard library.
func standardDecode(doc []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more data")
	}
	return v, nil
}

// FuzzDecode: our decoder and the standard library's accept the same documents and agree on
// what they hold, but for documents that are too deep.
func FuzzDecode(f *testing.F) {
	for _, doc := range []string{
		`{"a":[1,-0,1.5e-7,true,false,null,"x"],"b":{},"c":[],"a":2}`, ` [ ] `, `"\u00e9\ud83d\ude00\ud800\ud800x\udc00\"\\\/\b\f\n\r\t"`,
		"\"\xff\xc3(\u2028é\"", "\"\\n\xff\xfe\"", `01`, `1.`, `-`, `1e`, `+1`, `tru`, `nul`, `{"a" 1}`, `{"a":1,}`, `[1,]`, `[1 2]`,
		`"\ud83d\u0041"`, `"\u12"`, `"\x"`, `"`, `"\`, "\"\x01\"", "\"\\n\x01\"", `{} {}`, "", "\x00", "1\x00", "{", "[", `{"a"`, `{"a":`, "\ufeff{}",
	} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		got, err := decodeAny(doc, maxValueDepth)
		if deep, ok := errors.AsType[*depthError](err); ok {
			require.Equal(t, maxValueDepth, deep.limit)
			return
		}
		want, wantErr := standardDecode(doc)
		require.Equal(t, wantErr == nil, err == nil, "%v, but the standard library says %v", err, wantErr)
		if err == nil {
			require.Equal(t, want, got)
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	doc := []byte(`{"user_input":"Where is order 12?","tokens_used":1200,"cost":0.0042,"execution_path":["a","b","c"],"metadata":{"input_processed":true},"outputs":{"answer":{"text":"lorem ipsum dolor sit amet \n consectetur","score":0.5}}}`)
	for name, decode := range map[string]func([]byte) (any, error){
		"ours":     func(doc []byte) (any, error) { return decodeAny(doc, maxValueDepth) },
		"standard": standardDecode,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := decode(doc); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
