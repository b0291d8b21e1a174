package source

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/param"
	"github.com/openai/openai-go/v3/packages/ssestream"
	"github.com/openai/openai-go/v3/shared"
)

// openAI speaks the chat completions protocol, which OpenAI, Groq, Azure, Ollama and most
// self-hosted servers share. Its fields are the differences that matter.
type openAI struct {
	name             string
	completionTokens bool // max_completion_tokens, which replaces max_tokens at OpenAI
	schema           bool // takes a JSON Schema as response_format
	topK             bool // takes top_k, which OpenAI itself does not know

	// options adds what a provider wants besides a base URL and a bearer key.
	options func(c *call, e endpoint) (base string, opts []option.RequestOption, err error)
}

// openAIClient bundles the services in use. They are made one by one, because openai.NewClient
// also reads OPENAI_* from the environment: a key, an organization and headers of the platform.
type openAIClient struct {
	chat   openai.ChatCompletionService
	images openai.ImageService
	models openai.ModelService
}

func (o openAI) client(c *call, kind string) (openAIClient, endpoint, error) {
	e, err := c.endpoint(mustProvider(kind, o.name))
	if err != nil {
		return openAIClient{}, e, err
	}
	base := e.base.String()
	var opts []option.RequestOption
	if e.key != "" {
		opts = append(opts, option.WithAPIKey(e.key))
	}
	if o.options != nil {
		if base, opts, err = o.options(c, e); err != nil {
			return openAIClient{}, e, err
		}
	}
	made, err := client(c.clients, o.name, base, c.config.text("api_version"), e.key, func() (openAIClient, error) {
		opts = append([]option.RequestOption{
			option.WithBaseURL(base), option.WithHTTPClient(c.llmHTTP), option.WithMaxRetries(0),
		}, opts...)
		return openAIClient{
			chat:   openai.NewChatCompletionService(opts...),
			images: openai.NewImageService(opts...),
			models: openai.NewModelService(opts...),
		}, nil
	})
	return made, e, err
}

// perCall are the options of one request. resp receives the answer even when its body makes no
// sense to the SDK, as the error page of a proxy does not.
func (c *call) perCall(resp **http.Response) []option.RequestOption {
	opts := []option.RequestOption{option.WithResponseInto(resp)}
	if c.caller.IdempotencyKey != "" {
		opts = append(opts, option.WithHeader("Idempotency-Key", c.caller.IdempotencyKey))
	}
	return opts
}

func (o openAI) complete(ctx context.Context, c *call, q question) (answer, error) {
	cl, e, err := o.client(c, "llm")
	if err != nil {
		return answer{}, err
	}
	var resp *http.Response
	opts := c.perCall(&resp)
	if o.topK && q.topK != nil {
		opts = append(opts, option.WithJSONSet("top_k", *q.topK))
	}
	params := o.params(q)
	if q.progress == nil {
		got, err := cl.chat.New(ctx, params, opts...)
		if err != nil {
			return answer{}, o.failure(err, resp, e, q.model)
		}
		return readChat(got)
	}
	params.StreamOptions = openai.ChatCompletionStreamOptionsParam{IncludeUsage: param.NewOpt(true)}
	stream := cl.chat.NewStreaming(ctx, params, opts...)
	a, err := readChatStream(stream, q.progress)
	if closeErr := stream.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return answer{}, o.failure(err, resp, e, q.model)
	}
	return a, nil
}

func (o openAI) params(q question) openai.ChatCompletionNewParams {
	p := openai.ChatCompletionNewParams{Model: q.model}
	if system := joinPrompts(q.system, formatInstruction(q.format)); system != "" {
		p.Messages = append(p.Messages, openai.SystemMessage(system))
	}
	for _, t := range q.turns {
		if t.assistant {
			p.Messages = append(p.Messages, openai.AssistantMessage(t.text))
		} else {
			p.Messages = append(p.Messages, openai.UserMessage(t.text))
		}
	}
	// Reasoning models refuse any temperature but their own: one that nobody asked for is not sent.
	if q.temperature != nil && (!q.assumed || !reasoning(q.model)) {
		p.Temperature = param.NewOpt(*q.temperature)
	}
	if q.topP != nil {
		p.TopP = param.NewOpt(*q.topP)
	}
	if o.completionTokens {
		p.MaxCompletionTokens = param.NewOpt(int64(q.maxTokens))
	} else {
		p.MaxTokens = param.NewOpt(int64(q.maxTokens))
	}
	if len(q.stop) > 0 {
		p.Stop.OfStringArray = q.stop
	}
	switch {
	case q.format.JSON && q.format.Schema != nil && o.schema:
		p.ResponseFormat.OfJSONSchema = &shared.ResponseFormatJSONSchemaParam{
			JSONSchema: shared.ResponseFormatJSONSchemaJSONSchemaParam{Name: first(q.format.Name, "answer"), Schema: q.format.Schema},
		}
	case q.format.JSON:
		p.ResponseFormat.OfJSONObject = &shared.ResponseFormatJSONObjectParam{}
	}
	return p
}

// reasoning tells the model families that fix their sampling: o1, o3, o4-mini, gpt-5.
func reasoning(model string) bool {
	model = strings.ToLower(model[strings.LastIndexByte(model, '/')+1:])
	return strings.HasPrefix(model, "gpt-5") ||
		len(model) >= 2 && model[0] == 'o' && model[1] >= '1' && model[1] <= '9'
}

func readChat(got *openai.ChatCompletion) (answer, error) {
	a := answer{model: got.Model, usage: Usage{InputTokens: got.Usage.PromptTokens, OutputTokens: got.Usage.CompletionTokens}}
	if len(got.Choices) == 0 {
		return a, nil
	}
	choice := got.Choices[0]
	a.text, a.finish = choice.Message.Content, openAIFinish(choice.FinishReason)
	if a.text == "" && choice.Message.Refusal != "" {
		return a, refusal(choice.Message.Refusal)
	}
	return a, nil
}

func refusal(text string) *Error {
	return &Error{Class: ClassSafety, Code: "refusal", Message: "the model declined to answer: rephrase the prompt", Excerpt: text}
}

func readChatStream(stream *ssestream.Stream[openai.ChatCompletionChunk], progress func(string)) (answer, error) {
	var a answer
	var text, refused strings.Builder
	for stream.Next() {
		chunk := stream.Current()
		a.model = first(chunk.Model, a.model)
		if chunk.Usage.TotalTokens > 0 || chunk.Usage.PromptTokens > 0 {
			a.usage = Usage{InputTokens: chunk.Usage.PromptTokens, OutputTokens: chunk.Usage.CompletionTokens}
		}
		if len(chunk.Choices) == 0 {
			continue
		}
		choice := chunk.Choices[0]
		if choice.FinishReason != "" {
			a.finish = openAIFinish(choice.FinishReason)
		}
		refused.WriteString(choice.Delta.Refusal)
		if choice.Delta.Content != "" {
			text.WriteString(choice.Delta.Content)
			progress(choice.Delta.Content)
		}
	}
	if err := stream.Err(); err != nil {
		return answer{}, err
	}
	if a.finish == "" {
		return answer{}, errCutOff()
	}
	a.text = text.String()
	if a.text == "" && refused.Len() > 0 {
		return answer{}, refusal(refused.String())
	}
	return a, nil
}

// errCutOff is the error of a stream that ended before the model said that it was done: half an
// answer must not pass for one.
func errCutOff() *Error {
	return &Error{Class: ClassNetwork, Code: "cut_off", Message: "the stream ended before the answer did"}
}

func openAIFinish(reason string) string {
	switch reason {
	case "stop", "eos", "end_turn":
		return finishStop
	case "length", "max_tokens":
		return finishLength
	case "tool_calls", "function_call":
		return finishTools
	case "content_filter":
		return finishFilter
	default:
		return finishOther
	}
}

func (o openAI) probe(ctx context.Context, c *call, model string) error {
	cl, e, err := o.client(c, c.source.Kind)
	if err != nil {
		return err
	}
	var resp *http.Response
	if _, err := cl.models.List(ctx, option.WithResponseInto(&resp)); err != nil {
		return o.failure(err, resp, e, model)
	}
	return nil
}

// failure reads an error of the SDK. The status decides, whether or not the body made sense.
func (o openAI) failure(err error, resp *http.Response, e endpoint, model string) error {
	var own *Error
	if errors.As(err, &own) {
		return own
	}
	f := providerFailure{name: o.name, keyName: e.keyName, model: model}
	var header http.Header
	if resp != nil {
		f.status, header = resp.StatusCode, resp.Header
	}
	var api *openai.Error
	var broken *ssestream.StreamError
	switch {
	case errors.As(err, &api):
		f.status, f.code, f.kind, f.message = api.StatusCode, api.Code, api.Type, api.Message
		if f.message == "" {
			f.message = api.RawJSON()
		}
	case errors.As(err, &broken):
		// The head said 200 and the stream turned into an error.
		f.readStreamError(broken.Event.Data)
	case f.status < 400:
		if f.status != 0 && isDecodeError(err) {
			return &Error{Class: Class5xx, Status: f.status, Message: o.name + " answered with something that is not its protocol; check base_url", Excerpt: rootText(err), cause: err}
		}
		return err
	}
	failed := statusError(f.status, header, "", "", "")
	failed.cause = err
	return f.error(failed)
}

func (f *providerFailure) readStreamError(data []byte) {
	var body struct {
		Error struct {
			Message string `json:"message"`
			Type    string `json:"type"`
			Code    any    `json:"code"`
		} `json:"error"`
	}
	f.status = http.StatusBadGateway
	if json.Unmarshal(data, &body) != nil {
		f.message = string(data)
		return
	}
	f.message, f.kind = body.Error.Message, body.Error.Type
	switch code := body.Error.Code.(type) {
	case string:
		f.code = code
	case float64:
		f.status = int(code)
	}
	switch {
	case strings.Contains(f.kind+f.code, "rate_limit"):
		f.status = http.StatusTooManyRequests
	case strings.Contains(f.kind, "invalid_request"):
		f.status = http.StatusBadRequest
	}
}

// isDecodeError tells an answer that arrived and could not be read from one that did not arrive.
func isDecodeError(err error) bool {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	text := err.Error()
	return errors.As(err, &syntax) || errors.As(err, &kind) || strings.Contains(text, "parsing response json") ||
		strings.Contains(text, "expected destination type") || strings.Contains(text, "invalid character")
}
