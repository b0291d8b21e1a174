package fakeprovider

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// openAIChat is POST /chat/completions.
type openAIChat struct{ openAIErrors }

func bearer(r *http.Request) string {
	key, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return ""
	}
	return key
}

func (openAIChat) read(r *http.Request, into *Request) error {
	var body struct {
		Model    string `json:"model"`
		Stream   bool   `json:"stream"`
		Messages []struct {
			Role    string          `json:"role"`
			Content json.RawMessage `json:"content"`
		} `json:"messages"`
	}
	if err := json.Unmarshal(into.Body, &body); err != nil {
		return fmt.Errorf("the body is not JSON: %w", err)
	}
	if body.Model == "" || len(body.Messages) == 0 {
		return errors.New("you must provide a model and messages")
	}
	into.Wire, into.Key, into.Path = OpenAI, bearer(r), strings.TrimPrefix(into.Path, "/openai/v1")
	into.Model, into.Stream = body.Model, body.Stream
	for _, m := range body.Messages {
		switch m.Role {
		case "system", "developer":
			into.System += texts(m.Content)
			continue
		case "user":
			into.Prompt = texts(m.Content)
		}
		into.Turns++
	}
	return nil
}

func (f openAIChat) write(w http.ResponseWriter, r Request, reply Reply) {
	if r.Stream {
		f.stream(w, r, reply)
		return
	}
	in, out := reply.usage()
	answer := f.envelope("chat.completion", r)
	answer["choices"] = []any{map[string]any{
		"index": 0, "finish_reason": f.finish(reply), "logprobs": nil,
		"message": map[string]any{"role": "assistant", "content": reply.Text, "refusal": nil},
	}}
	answer["usage"] = map[string]any{"prompt_tokens": in, "completion_tokens": out, "total_tokens": in + out}
	writeMaybeCut(w, reply, answer)
}

func (f openAIChat) stream(w http.ResponseWriter, r Request, reply Reply) {
	chunk := func(choices []any, usage any) string {
		c := f.envelope("chat.completion.chunk", r)
		c["choices"], c["usage"] = choices, usage
		return data(c)
	}
	choice := func(delta map[string]any, finish any) []any {
		return []any{map[string]any{"index": 0, "delta": delta, "finish_reason": finish}}
	}
	events := []string{chunk(choice(map[string]any{"role": "assistant", "content": ""}, nil), nil)}
	for _, p := range pieces(reply.Text) {
		events = append(events, chunk(choice(map[string]any{"content": p}, nil), nil))
	}
	end := chunk(choice(map[string]any{}, f.finish(reply)), nil)
	if reply.Fault == CutOff {
		stream(w, true, append(events, end)...)
		return
	}
	events = append(events, end)
	// The usage comes only to those who ask for it.
	if options, ok := r.JSON()["stream_options"].(map[string]any); ok && options["include_usage"] == true {
		in, out := reply.usage()
		events = append(events, chunk([]any{}, map[string]any{"prompt_tokens": in, "completion_tokens": out, "total_tokens": in + out}))
	}
	stream(w, false, append(events, "data: [DONE]")...)
}

func (openAIChat) envelope(object string, r Request) map[string]any {
	return map[string]any{"id": fmt.Sprintf("chatcmpl-%d", r.Number), "object": object, "created": 1, "model": r.Model}
}

func (openAIChat) finish(reply Reply) string {
	switch reply.Finish {
	case Length:
		return "length"
	case Filtered:
		return "content_filter"
	case Stopped:
	}
	return "stop"
}

// openAIImage is POST /images/generations.
type openAIImage struct{ openAIErrors }

func (openAIImage) read(r *http.Request, into *Request) error {
	var body struct {
		Model  string `json:"model"`
		Prompt string `json:"prompt"`
	}
	if err := json.Unmarshal(into.Body, &body); err != nil {
		return fmt.Errorf("the body is not JSON: %w", err)
	}
	if body.Prompt == "" {
		return errors.New("you must provide a prompt")
	}
	into.Wire, into.Key, into.Path = OpenAI, bearer(r), strings.TrimPrefix(into.Path, "/openai/v1")
	into.Model, into.Prompt, into.Image = body.Model, body.Prompt, true
	return nil
}

func (openAIImage) write(w http.ResponseWriter, _ Request, reply Reply) {
	picture := map[string]any{}
	if reply.Image.URL != "" {
		picture["url"] = reply.Image.URL
	} else {
		picture["b64_json"] = base64.StdEncoding.EncodeToString(reply.Image.Data)
	}
	answer := map[string]any{"created": 1, "data": []any{picture}}
	if len(reply.Image.Data) > 0 {
		answer["output_format"] = strings.TrimPrefix(reply.Image.mime(), "image/")
	}
	writeMaybeCut(w, reply, answer)
}

// openAIModels is GET /models, by which a source is tried.
type openAIModels struct{ openAIErrors }

func (openAIModels) read(r *http.Request, into *Request) error {
	into.Wire, into.Key, into.Path = OpenAI, bearer(r), strings.TrimPrefix(into.Path, "/openai/v1")
	return nil
}

func (openAIModels) write(w http.ResponseWriter, _ Request, _ Reply) {
	writeJSON(w, http.StatusOK, map[string]any{"object": "list", "data": []any{
		map[string]any{"id": "gpt-4o-mini", "object": "model", "created": 1, "owned_by": "fake"},
	}})
}

// openAIErrors is the shape of a failure.
type openAIErrors struct{}

func (openAIErrors) refuse(w http.ResponseWriter, status int, reply Reply) {
	kind := "invalid_request_error"
	if status >= http.StatusInternalServerError {
		kind = "server_error"
	}
	writeJSON(w, status, map[string]any{"error": map[string]any{"message": reply.Text, "type": kind, "param": nil, "code": reply.Code}})
}

// writeMaybeCut writes an answer in one piece, or half of it.
func writeMaybeCut(w http.ResponseWriter, reply Reply, answer any) {
	if reply.Fault != CutOff {
		writeJSON(w, http.StatusOK, answer)
		return
	}
	body, err := json.Marshal(answer)
	if err != nil {
		panic(err) // a script's answer that is not JSON
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body[:len(body)/2])
	flush(w)
	panic(http.ErrAbortHandler)
}
