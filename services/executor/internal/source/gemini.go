package source

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"

	"google.golang.org/genai"
)

func init() {
	p := Provider{
		Name: "gemini", Aliases: []string{"google"}, Description: "Google Gemini",
		KeyEnv: []string{"GEMINI_API_KEY", "GOOGLE_API_KEY"}, BaseURL: "https://generativelanguage.googleapis.com",
	}
	registerLLM(p, gemini{})
	p.Aliases = []string{"google", "imagen"}
	p.Description = "Google Gemini and Imagen"
	registerImage(p, gemini{})
}

// gemini speaks to Google's Gemini API.
type gemini struct{}

func (gemini) client(ctx context.Context, c *call, kind string) (*genai.Client, endpoint, error) {
	e, err := c.endpoint(mustProvider(kind, "gemini"))
	if err != nil {
		return nil, e, err
	}
	base := strings.TrimSuffix(e.base.String(), "/") + "/"
	made, err := client(c.clients, "gemini", base, "", e.key, func() (*genai.Client, error) {
		// Backend, key and address are all given: the SDK has nothing left to read from the environment.
		return genai.NewClient(context.WithoutCancel(ctx), &genai.ClientConfig{
			APIKey: e.key, Backend: genai.BackendGeminiAPI, HTTPClient: c.llmHTTP,
			HTTPOptions: genai.HTTPOptions{BaseURL: base},
		})
	})
	return made, e, err
}

func (g gemini) complete(ctx context.Context, c *call, q question) (answer, error) {
	cl, e, err := g.client(ctx, c, "llm")
	if err != nil {
		return answer{}, err
	}
	var head responseHead
	ctx = head.watch(ctx)
	contents, config := geminiRequest(q)
	config.HTTPOptions = c.geminiOptions()
	if q.progress == nil {
		got, err := cl.Models.GenerateContent(ctx, q.model, contents, config)
		if err != nil {
			return answer{}, g.failure(err, head, e, q.model)
		}
		var r geminiReader
		r.add(got, nil)
		return r.answer(q.model)
	}
	var r geminiReader
	for chunk, err := range cl.Models.GenerateContentStream(ctx, q.model, contents, config) {
		if err != nil {
			return answer{}, g.failure(err, head, e, q.model)
		}
		r.add(chunk, q.progress)
	}
	if r.finish == "" && r.blocked == "" {
		return answer{}, errCutOff()
	}
	return r.answer(q.model)
}

func (c *call) geminiOptions() *genai.HTTPOptions {
	header := http.Header{}
	if c.caller.IdempotencyKey != "" {
		header.Set("Idempotency-Key", c.caller.IdempotencyKey)
	}
	return &genai.HTTPOptions{Headers: header}
}

func geminiRequest(q question) ([]*genai.Content, *genai.GenerateContentConfig) {
	var contents []*genai.Content
	for _, t := range q.turns {
		role := genai.Role(genai.RoleUser)
		if t.assistant {
			role = genai.RoleModel
		}
		contents = append(contents, genai.NewContentFromText(t.text, role))
	}
	config := &genai.GenerateContentConfig{
		MaxOutputTokens: int32(min(q.maxTokens, 1<<30)), //nolint:gosec // bounded
		StopSequences:   q.stop,
		// One attempt is one request: the SDK would ask again where a long answer was interrupted.
		AutomaticContinuation: genai.Ptr(false),
	}
	if q.system != "" {
		config.SystemInstruction = genai.NewContentFromText(q.system, genai.RoleUser)
	}
	if q.temperature != nil {
		config.Temperature = genai.Ptr(float32(*q.temperature))
	}
	if q.topP != nil {
		config.TopP = genai.Ptr(float32(*q.topP))
	}
	if q.topK != nil {
		config.TopK = genai.Ptr(float32(*q.topK))
	}
	if q.format.JSON {
		config.ResponseMIMEType = "application/json"
		if q.format.Schema != nil {
			config.ResponseJsonSchema = q.format.Schema
		}
	}
	return contents, config
}

// geminiReader puts an answer together from one response or from many.
type geminiReader struct {
	text    strings.Builder
	model   string
	finish  genai.FinishReason
	blocked string
	usage   Usage
}

func (r *geminiReader) add(resp *genai.GenerateContentResponse, progress func(string)) {
	r.model = first(resp.ModelVersion, r.model)
	if u := resp.UsageMetadata; u != nil {
		r.usage = Usage{
			InputTokens:  int64(u.PromptTokenCount) + int64(u.ToolUsePromptTokenCount),
			OutputTokens: int64(u.CandidatesTokenCount) + int64(u.ThoughtsTokenCount), // thinking is billed as output
		}
	}
	if f := resp.PromptFeedback; f != nil && f.BlockReason != "" {
		r.blocked = string(f.BlockReason)
	}
	if len(resp.Candidates) == 0 {
		return
	}
	candidate := resp.Candidates[0]
	if candidate.FinishReason != "" {
		r.finish = candidate.FinishReason
	}
	if candidate.Content == nil {
		return
	}
	for _, part := range candidate.Content.Parts {
		if part.Text == "" || part.Thought {
			continue
		}
		r.text.WriteString(part.Text)
		if progress != nil {
			progress(part.Text)
		}
	}
}

func (r *geminiReader) answer(asked string) (answer, error) {
	if r.blocked != "" {
		return answer{}, &Error{Class: ClassSafety, Code: r.blocked, Message: "gemini blocked the prompt (" + r.blocked + "): rephrase it"}
	}
	a := answer{text: r.text.String(), model: first(r.model, asked), usage: r.usage}
	switch r.finish {
	case genai.FinishReasonStop:
		a.finish = finishStop
	case genai.FinishReasonMaxTokens:
		a.finish = finishLength
	case genai.FinishReasonSafety, genai.FinishReasonBlocklist, genai.FinishReasonProhibitedContent, genai.FinishReasonSPII,
		genai.FinishReasonRecitation, genai.FinishReasonLanguage, genai.FinishReasonImageSafety,
		genai.FinishReasonImageProhibitedContent, genai.FinishReasonImageRecitation:
		return a, &Error{
			Class: ClassSafety, Code: string(r.finish), Excerpt: a.text,
			Message: "gemini stopped its answer (" + string(r.finish) + "): rephrase the prompt",
		}
	case genai.FinishReasonMalformedFunctionCall, genai.FinishReasonUnexpectedToolCall, genai.FinishReasonTooManyToolCalls:
		a.finish = finishTools
	default:
		a.finish = finishOther
	}
	return a, nil
}

func (g gemini) probe(ctx context.Context, c *call, model string) error {
	cl, e, err := g.client(ctx, c, c.source.Kind)
	if err != nil {
		return err
	}
	var head responseHead
	ctx = head.watch(ctx)
	if _, err := cl.Models.Get(ctx, model, nil); err != nil {
		return g.failure(err, head, e, model)
	}
	return nil
}

// paint asks a Gemini model that draws, or Imagen.
func (g gemini) paint(ctx context.Context, c *call, model string, req ImageRequest) (picture, error) {
	if strings.Contains(model, "imagen") {
		return g.imagen(ctx, c, model, req)
	}
	cl, e, err := g.client(ctx, c, "image")
	if err != nil {
		return picture{}, err
	}
	var head responseHead
	ctx = head.watch(ctx)
	got, err := cl.Models.GenerateContent(ctx, model, genai.Text(req.Prompt), &genai.GenerateContentConfig{
		ResponseModalities:    []string{"TEXT", "IMAGE"},
		ImageConfig:           &genai.ImageConfig{AspectRatio: aspectRatio(req.Size)},
		AutomaticContinuation: genai.Ptr(false),
		HTTPOptions:           c.geminiOptions(),
	})
	if err != nil {
		return picture{}, g.failure(err, head, e, model)
	}
	return readGeminiPicture(got, model)
}

func readGeminiPicture(got *genai.GenerateContentResponse, model string) (picture, error) {
	for _, candidate := range got.Candidates {
		if candidate.Content == nil {
			continue
		}
		for _, part := range candidate.Content.Parts {
			if part.InlineData != nil && len(part.InlineData.Data) > 0 {
				var r geminiReader
				r.add(got, nil)
				return picture{data: part.InlineData.Data, mime: part.InlineData.MIMEType, usage: r.usage}, nil
			}
		}
	}
	var r geminiReader
	r.add(got, nil)
	a, err := r.answer(model)
	if err == nil && a.text != "" {
		err = &Error{Class: ClassEmpty, Message: "the model answered with words instead of a picture", Excerpt: a.text}
	}
	return picture{}, err
}

// aspectRatio translates the pixels of the contract into what Google's models take.
func aspectRatio(size string) string {
	switch size {
	case "1536x1024", "1792x1024", "1024x576", "1920x1080":
		return "16:9"
	case "1024x1536", "1024x1792", "576x1024", "1080x1920":
		return "9:16"
	case "1024x768":
		return "4:3"
	case "768x1024":
		return "3:4"
	default:
		if strings.Contains(size, ":") {
			return size
		}
		return "1:1"
	}
}

func (gemini) failure(err error, head responseHead, e endpoint, model string) error {
	f := providerFailure{name: "gemini", keyName: e.keyName, model: model, status: head.status}
	var api genai.APIError
	if errors.As(err, &api) {
		f.code, f.message = api.Status, api.Message
		if f.status < 400 { // the error came inside a stream
			f.status = api.Code
		}
		for _, detail := range api.Details {
			if reason, ok := detail["reason"].(string); ok {
				f.kind = reason
			}
		}
	} else if f.status < 400 {
		if f.status != 0 && (isDecodeError(err) || strings.Contains(err.Error(), "unmarshal")) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return &Error{Class: Class5xx, Status: f.status, Message: "gemini answered with something that is not its protocol; check base_url", cause: err}
		}
		return err
	}
	failed := statusError(f.status, head.header, "", "", "")
	if failed.RetryAfter == 0 {
		failed.RetryAfter = retryDelay(api.Details)
	}
	failed.cause = err
	return f.error(failed)
}

var (
	_ llmAdapter   = gemini{}
	_ imageAdapter = gemini{}
)
