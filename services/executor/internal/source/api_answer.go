package source

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
	"unicode/utf8"
)

// Modes of reading an answer.
const (
	answerAuto   = "auto"
	answerJSON   = "json"
	answerText   = "text"
	answerBinary = "binary"
)

// data decodes an answer as the node asked for, or as its content type says.
func (c *call) data(ctx context.Context, raw, contentType, mode string) (any, error) {
	media, _, _ := mime.ParseMediaType(contentType)
	if mode == "" || mode == answerAuto {
		mode = modeOf(raw, media)
		if mode == answerJSON {
			// A server that labels its error page as JSON is common, and no reason to lose the page.
			if v, err := c.decodeMasked(raw); err == nil {
				return v, nil
			}
			mode = answerText
		}
	}
	switch mode {
	case answerJSON:
		if strings.TrimSpace(raw) == "" {
			return nil, nil
		}
		v, err := c.decodeMasked(raw)
		if err != nil {
			return nil, &Error{
				Class: ClassFormat, Message: "the answer is not JSON; use response text if it need not be",
				Excerpt: raw[:min(len(raw), 4*maxExcerpt)], cause: err,
			}
		}
		return v, nil
	case answerText:
		return c.seen.Mask(strings.ToValidUTF8(raw, "\uFFFD")), nil
	case answerBinary:
		if media == "" {
			media = http.DetectContentType([]byte(raw[:min(len(raw), 512)]))
		}
		return c.binary(ctx, c.seen.Mask(raw), media)
	default:
		return nil, c.invalid("response %.20q is not one of auto, json, text, binary", mode)
	}
}

// decodeMasked decodes an answer without the call's secrets. Escaped as \u0061 a secret shows only when it is decoded.
func (c *call) decodeMasked(raw string) (any, error) {
	v, err := decodeJSON(c.seen.Mask(raw))
	if err != nil || !c.seen.Any() || !strings.Contains(raw, `\u`) {
		return v, err
	}
	return c.masked(v), nil
}

// masked is a decoded value without the call's secrets.
func (c *call) masked(v any) any {
	switch v := v.(type) {
	case string:
		return c.seen.Mask(v)
	case []any:
		for i := range v {
			v[i] = c.masked(v[i])
		}
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, item := range v {
			out[c.seen.Mask(key)] = c.masked(item)
		}
		return out
	}
	return v
}

// modeOf guesses how to read an answer.
func modeOf(raw, media string) string {
	switch {
	case isJSONType(media):
		return answerJSON
	case strings.HasPrefix(media, "text/"), media == "application/xml", strings.HasSuffix(media, "+xml"),
		media == "application/x-www-form-urlencoded", media == "application/javascript",
		media == "application/yaml", media == "application/x-ndjson", media == "application/graphql":
		return answerText
	case media != "":
		return answerBinary
	}
	if first := strings.TrimLeft(raw, " \t\r\n"); first != "" && (first[0] == '{' || first[0] == '[') {
		return answerJSON
	}
	if utf8.ValidString(raw) {
		return answerText
	}
	return answerBinary
}

// binary keeps a small answer inline and sends a large one to the object store.
func (c *call) binary(ctx context.Context, raw, media string) (Binary, error) {
	out := Binary{Type: "base64", MIMEType: media, Size: len(raw)}
	if len(raw) >= c.cfg.LargeBytes && c.cfg.Objects != nil {
		ref, err := c.cfg.Objects.Put(ctx, c.caller.Tenant, []byte(raw), media)
		if err != nil {
			return Binary{}, &Error{Class: ClassNetwork, Code: "object_store", Message: "a large answer could not be stored", cause: err}
		}
		out.Type, out.Ref = "object", ref
		return out, nil
	}
	out.Data = encodeBase64(raw)
	return out, nil
}

// encodeBase64 is EncodeToString without its second copy.
func encodeBase64(raw string) string {
	var b strings.Builder
	b.Grow(base64.StdEncoding.EncodedLen(len(raw)))
	var plain [3 << 10]byte
	var coded [4 << 10]byte
	for len(raw) > 0 {
		n := copy(plain[:], raw)
		raw = raw[n:]
		base64.StdEncoding.Encode(coded[:], plain[:n])
		b.Write(coded[:base64.StdEncoding.EncodedLen(n)])
	}
	return b.String()
}

// lenientData reads the body of a failure: JSON when it is, else its text, bounded.
func (c *call) lenientData(text, contentType string) any {
	media, _, _ := mime.ParseMediaType(contentType)
	if isJSONType(media) {
		if v, err := c.decodeMasked(text); err == nil {
			return v
		}
	}
	return excerpt(text)
}

// chunk is what an answer is read into, piece by piece; the pieces are used again.
type chunk [64 << 10]byte

var chunks = sync.Pool{}

func newChunk() *chunk {
	if c, ok := chunks.Get().(*chunk); ok {
		return c
	}
	return new(chunk)
}

// readBody reads an answer to its end and closes it. Whatever its length, and whether or not that
// was announced, the text it returns is the only thing it leaves behind.
func readBody(resp *http.Response) (string, error) {
	text, err := readText(resp.Body)
	if closeErr := resp.Body.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return "", fmt.Errorf("read the answer: %w", err)
	}
	return text, nil
}

func readText(r io.Reader) (string, error) {
	var read []*chunk
	defer func() {
		for _, c := range read {
			chunks.Put(c)
		}
	}()
	for total := 0; ; {
		c := newChunk()
		read = append(read, c)
		n, err := io.ReadFull(r, c[:])
		total += n
		if err == nil {
			continue
		}
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return "", err
		}
		return joinChunks(read, total), nil
	}
}

func joinChunks(read []*chunk, total int) string {
	var b strings.Builder
	b.Grow(total)
	for _, c := range read {
		b.Write(c[:min(total-b.Len(), len(c))])
	}
	return b.String()
}
