package fakeprovider

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// geminiCall is POST /models/{model}:generateContent, :streamGenerateContent and, for Imagen, :predict.
type geminiCall struct{ geminiErrors }

func (geminiCall) read(r *http.Request, into *Request) error {
	model, verb, _ := strings.Cut(r.PathValue("call"), ":")
	into.Wire, into.Key, into.Path = Gemini, r.Header.Get("X-Goog-Api-Key"), strings.TrimPrefix(into.Path, "/gemini")
	into.Model = model
	var body struct {
		Contents []struct {
			Role  string          `json:"role"`
			Parts json.RawMessage `json:"parts"`
		} `json:"contents"`
		System struct {
			Parts json.RawMessage `json:"parts"`
		} `json:"systemInstruction"`
		Config struct {
			Modalities []string `json:"responseModalities"`
		} `json:"generationConfig"`
		Instances []struct {
			Prompt string `json:"prompt"`
		} `json:"instances"`
	}
	if err := json.Unmarshal(into.Body, &body); err != nil {
		return fmt.Errorf("the body is not JSON: %w", err)
	}
	switch verb {
	case "predict":
		if len(body.Instances) == 0 {
			return errors.New("instances is empty")
		}
		into.Prompt, into.Image = body.Instances[0].Prompt, true
		return nil
	case "streamGenerateContent":
		if r.URL.Query().Get("alt") != "sse" {
			return errors.New("this server streams server-sent events alone: ask for alt=sse")
		}
		into.Stream = true
	case "generateContent":
	default:
		return errors.New("there is no method " + verb)
	}
	if len(body.Contents) == 0 {
		return errors.New("contents is empty")
	}
	into.System, into.Turns = texts(body.System.Parts), len(body.Contents)
	for _, c := range body.Contents {
		if c.Role != "model" {
			into.Prompt = texts(c.Parts)
		}
	}
	for _, m := range body.Config.Modalities {
		into.Image = into.Image || strings.EqualFold(m, "IMAGE")
	}
	return nil
}

func (f geminiCall) write(w http.ResponseWriter, r Request, reply Reply) {
	switch {
	case strings.HasSuffix(r.Path, ":predict"):
		writeMaybeCut(w, reply, map[string]any{"predictions": []any{map[string]any{
			"bytesBase64Encoded": reply.Image.Data, "mimeType": reply.Image.mime(),
		}}})
	case r.Stream:
		f.stream(w, r, reply)
	default:
		writeMaybeCut(w, reply, f.response(r, reply, f.parts(reply), f.finish(reply), !r.Image || reply.Input+reply.Output > 0))
	}
}

func (geminiCall) parts(reply Reply) []any {
	if len(reply.Image.Data) > 0 {
		return []any{map[string]any{"inlineData": map[string]any{"mimeType": reply.Image.mime(), "data": reply.Image.Data}}}
	}
	return []any{map[string]any{"text": reply.Text}}
}

func (f geminiCall) stream(w http.ResponseWriter, r Request, reply Reply) {
	var events []string
	all := pieces(reply.Text)
	for i, p := range all {
		finish := ""
		if i == len(all)-1 {
			finish = f.finish(reply)
		}
		events = append(events, data(f.response(r, reply, []any{map[string]any{"text": p}}, finish, finish != "")))
	}
	stream(w, reply.Fault == CutOff, events...)
}

func (geminiCall) response(r Request, reply Reply, parts []any, finish string, usage bool) map[string]any {
	candidate := map[string]any{"index": 0, "content": map[string]any{"role": "model", "parts": parts}}
	if finish != "" {
		candidate["finishReason"] = finish
	}
	answer := map[string]any{"candidates": []any{candidate}, "modelVersion": r.Model, "responseId": fmt.Sprintf("resp-%d", r.Number)}
	if usage {
		in, out := reply.usage()
		answer["usageMetadata"] = map[string]any{"promptTokenCount": in, "candidatesTokenCount": out, "totalTokenCount": in + out}
	}
	return answer
}

func (geminiCall) finish(reply Reply) string {
	switch reply.Finish {
	case Length:
		return "MAX_TOKENS"
	case Filtered:
		return "SAFETY"
	case Stopped:
	}
	return "STOP"
}

// geminiModel is GET /models/{model}, by which a source is tried.
type geminiModel struct{ geminiErrors }

func (geminiModel) read(r *http.Request, into *Request) error {
	into.Wire, into.Key, into.Path = Gemini, r.Header.Get("X-Goog-Api-Key"), strings.TrimPrefix(into.Path, "/gemini")
	into.Model = r.PathValue("model")
	return nil
}

func (geminiModel) write(w http.ResponseWriter, r Request, _ Reply) {
	writeJSON(w, http.StatusOK, map[string]any{"name": "models/" + r.Model, "displayName": r.Model})
}

// geminiErrors is the shape of a failure: a google.rpc.Status.
type geminiErrors struct{}

func (geminiErrors) refuse(w http.ResponseWriter, status int, reply Reply) {
	word := map[int]string{
		http.StatusBadRequest: "INVALID_ARGUMENT", http.StatusUnauthorized: "UNAUTHENTICATED", http.StatusForbidden: "PERMISSION_DENIED",
		http.StatusNotFound: "NOT_FOUND", http.StatusTooManyRequests: "RESOURCE_EXHAUSTED", http.StatusServiceUnavailable: "UNAVAILABLE",
	}[status]
	if word == "" {
		word = "INTERNAL"
	}
	writeJSON(w, status, map[string]any{"error": map[string]any{"code": status, "message": reply.Text, "status": word}})
}
