package source

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"google.golang.org/genai"
)

// imagen asks Google's Imagen with a request of our own: the SDK offers these models on Vertex AI
// alone, and the Gemini API serves them under :predict.
func (g gemini) imagen(ctx context.Context, c *call, model string, req ImageRequest) (picture, error) {
	e, err := c.endpoint(mustProvider("image", "gemini"))
	if err != nil {
		return picture{}, err
	}
	body, err := json.Marshal(map[string]any{
		"instances":  []any{map[string]any{"prompt": req.Prompt}},
		"parameters": map[string]any{"sampleCount": 1, "aspectRatio": aspectRatio(req.Size), "includeRaiReason": true},
	})
	if err != nil {
		return picture{}, err
	}
	target := e.base.JoinPath("v1beta/models/" + url.PathEscape(model) + ":predict")
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(body))
	if err != nil {
		return picture{}, err
	}
	post.Header.Set("Content-Type", "application/json")
	post.Header.Set("X-Goog-Api-Key", e.key)
	if c.caller.IdempotencyKey != "" {
		post.Header.Set("Idempotency-Key", c.caller.IdempotencyKey)
	}
	resp, err := c.llmHTTP.Do(post)
	if err != nil {
		return picture{}, err
	}
	raw, err := readBody(resp)
	if err != nil {
		return picture{}, err
	}
	return g.readImagen([]byte(raw), responseHead{status: resp.StatusCode, header: resp.Header}, e, model)
}

func (g gemini) readImagen(raw []byte, head responseHead, e endpoint, model string) (picture, error) {
	if head.status >= 400 {
		failed := struct{ Error genai.APIError }{}
		if json.Unmarshal(raw, &failed) != nil || failed.Error.Message == "" {
			failed.Error.Message = excerpt(string(raw))
		}
		return picture{}, g.failure(failed.Error, head, e, model)
	}
	var got struct {
		Predictions []struct {
			Data     []byte `json:"bytesBase64Encoded"`
			MIME     string `json:"mimeType"`
			Prompt   string `json:"prompt"`
			Filtered string `json:"raiFilteredReason"`
		} `json:"predictions"`
	}
	if err := json.Unmarshal(raw, &got); err != nil {
		return picture{}, g.failure(err, head, e, model)
	}
	if len(got.Predictions) == 0 {
		return picture{}, nil
	}
	first := got.Predictions[0]
	if first.Filtered != "" {
		return picture{}, &Error{Class: ClassSafety, Code: "rai_filtered", Message: "imagen filtered the picture: rephrase the prompt", Excerpt: first.Filtered}
	}
	return picture{data: first.Data, mime: first.MIME, revised: first.Prompt}, nil
}
