package fakeprovider

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// anthropicMessages is POST /messages.
type anthropicMessages struct{}

func (anthropicMessages) read(r *http.Request, into *Request) error {
	var body struct {
		Model     string          `json:"model"`
		MaxTokens int             `json:"max_tokens"`
		Stream    bool            `json:"stream"`
		System    json.RawMessage `json:"system"`
		Messages  []struct {
			Role    string          `json:"role"`
			Content json.RawMessage `json:"content"`
		} `json:"messages"`
	}
	if err := json.Unmarshal(into.Body, &body); err != nil {
		return fmt.Errorf("the body is not JSON: %w", err)
	}
	if body.Model == "" || body.MaxTokens < 1 || len(body.Messages) == 0 {
		return errors.New("model, max_tokens and messages are required")
	}
	into.Wire, into.Key, into.Path = Anthropic, r.Header.Get("X-Api-Key"), strings.TrimPrefix(into.Path, "/anthropic")
	into.Model, into.Stream, into.Turns = body.Model, body.Stream, len(body.Messages)
	if len(body.System) > 0 {
		into.System = texts(body.System)
	}
	for _, m := range body.Messages {
		if m.Role == "user" {
			into.Prompt = texts(m.Content)
		}
	}
	return nil
}

func (f anthropicMessages) write(w http.ResponseWriter, r Request, reply Reply) {
	in, out := reply.usage()
	message := map[string]any{
		"id": fmt.Sprintf("msg_%d", r.Number), "type": "message", "role": "assistant", "model": r.Model,
		"content":     []any{map[string]any{"type": "text", "text": reply.Text}},
		"stop_reason": f.finish(reply), "stop_sequence": nil,
		"usage": map[string]any{"input_tokens": in, "output_tokens": out},
	}
	if !r.Stream {
		writeMaybeCut(w, reply, message)
		return
	}
	message["content"], message["stop_reason"] = []any{}, nil
	message["usage"] = map[string]any{"input_tokens": in, "output_tokens": 0}
	event := func(name string, more map[string]any) string {
		more["type"] = name
		return "event: " + name + "\n" + data(more)
	}
	events := []string{
		event("message_start", map[string]any{"message": message}),
		event("content_block_start", map[string]any{"index": 0, "content_block": map[string]any{"type": "text", "text": ""}}),
	}
	for _, p := range pieces(reply.Text) {
		events = append(events, event("content_block_delta", map[string]any{"index": 0, "delta": map[string]any{"type": "text_delta", "text": p}}))
	}
	if reply.Fault == CutOff {
		stream(w, true, append(events, "event: never\ndata: {}")...)
		return
	}
	stream(w, false, append(events,
		event("content_block_stop", map[string]any{"index": 0}),
		event("message_delta", map[string]any{"delta": map[string]any{"stop_reason": f.finish(reply), "stop_sequence": nil}, "usage": map[string]any{"output_tokens": out}}),
		event("message_stop", map[string]any{}),
	)...)
}

func (anthropicMessages) finish(reply Reply) string {
	switch reply.Finish {
	case Length:
		return "max_tokens"
	case Filtered:
		return "refusal"
	case Stopped:
	}
	return "end_turn"
}

func (anthropicMessages) refuse(w http.ResponseWriter, status int, reply Reply) {
	kind := map[int]string{
		http.StatusBadRequest: "invalid_request_error", http.StatusUnauthorized: "authentication_error", http.StatusForbidden: "permission_error",
		http.StatusNotFound: "not_found_error", http.StatusTooManyRequests: "rate_limit_error", 529: "overloaded_error",
	}[status]
	if kind == "" {
		kind = "api_error"
	}
	writeJSON(w, status, map[string]any{"type": "error", "error": map[string]any{"type": kind, "message": reply.Text}})
}
