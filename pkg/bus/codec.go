package bus

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/mailru/easyjson"
)

// The calls that are made often have generated codecs; the wire is the same JSON.

func marshal(v any) ([]byte, error) {
	if m, ok := v.(easyjson.Marshaler); ok {
		return easyjson.Marshal(m)
	}
	return json.Marshal(v)
}

func unmarshal(data []byte, into any) error {
	if u, ok := into.(easyjson.Unmarshaler); ok {
		return easyjson.Unmarshal(data, u)
	}
	return json.Unmarshal(data, into)
}

// okPrefix is how a reply with a result begins, as EncodeReply writes it.
const okPrefix = `{"ok":`

// encodeOK is EncodeReply of a result with a generated codec.
func encodeOK(v any) (body []byte, generated bool, err error) {
	m, ok := v.(easyjson.Marshaler)
	if !ok {
		return nil, false, nil
	}
	inner, err := easyjson.Marshal(m)
	if err != nil {
		return nil, true, fmt.Errorf("encode reply: %w", err)
	}
	body = make([]byte, 0, len(okPrefix)+len(inner)+1)
	body = append(append(body, okPrefix...), inner...)
	return append(body, '}'), true, nil
}

// decodeOK is DecodeReply of such a result; not ok when the reply is anything else.
func decodeOK[T any](body []byte) (v T, ok bool) {
	u, generated := any(&v).(easyjson.Unmarshaler)
	inner, result := bytes.CutPrefix(body, []byte(okPrefix))
	if !generated || !result || !bytes.HasPrefix(inner, []byte("{")) {
		return v, false
	}
	inner, whole := bytes.CutSuffix(inner, []byte("}"))
	return v, whole && easyjson.Unmarshal(inner, u) == nil
}
