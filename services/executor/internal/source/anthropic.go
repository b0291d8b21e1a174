package source

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
	"github.com/anthropics/anthropic-sdk-go/packages/param"
)

func init() {
	registerLLM(Provider{
		Name: "anthropic", Aliases: []string{"claude"}, Description: "Anthropic",
		KeyEnv: []string{"ANTHROPIC_API_KEY"}, BaseURL: "https://api.anthropic.com",
	}, claude{})
}

// claude speaks Anthropic's messages protocol.
type claude struct{}

// anthropicClient bundles the services in use; anthropic.NewClient would also walk the
// environment and the home directory for credentials.
type anthropicClient struct {
	messages anthropic.MessageService
	models   anthropic.ModelService
}

func (claude) client(c *call) (anthropicClient, endpoint, error) {
	e, err := c.endpoint(mustProvider("llm", "anthropic"))
	if err != nil {
		return anthropicClient{}, e, err
	}
	// The SDK adds v1/ itself; a base URL that ends in it is a common habit from other providers.
	base := strings.TrimSuffix(strings.TrimSuffix(e.base.String(), "/"), "/v1")
	made, err := client(c.clients, "anthropic", base, "", e.key, func() (anthropicClient, error) {
		opts := []option.RequestOption{
			option.WithBaseURL(base), option.WithHTTPClient(c.llmHTTP), option.WithAPIKey(e.key),
			option.WithMaxRetries(0),
			option.WithRequestTimeout(providerTimeout), // else the SDK refuses large max_tokens without streaming
			option.WithoutOpenTelemetry(),              // spans are ours, and never hold content
		}
		return anthropicClient{messages: anthropic.NewMessageService(opts...), models: anthropic.NewModelService(opts...)}, nil
	})
	return made, e, err
}

func (a claude) complete(ctx context.Context, c *call, q question) (answer, error) {
	cl, e, err := a.client(c)
	if err != nil {
		return answer{}, err
	}
	var resp *http.Response
	opts := []option.RequestOption{option.WithResponseInto(&resp)}
	if c.caller.IdempotencyKey != "" {
		opts = append(opts, option.WithHeader("Idempotency-Key", c.caller.IdempotencyKey))
	}
	params := anthropicParams(q)
	if q.progress == nil {
		got, err := cl.messages.New(ctx, params, opts...)
		if err != nil {
			return answer{}, a.failure(err, resp, e, q.model)
		}
		return readMessage(got)
	}
	stream := cl.messages.NewStreaming(ctx, params, opts...)
	var whole anthropic.Message
	for stream.Next() {
		event := stream.Current()
		if err := whole.Accumulate(event); err != nil {
			return answer{}, errors.Join(&Error{Class: Class5xx, Message: "anthropic streamed something that is not its protocol", cause: err}, stream.Close())
		}
		if event.Type == "content_block_delta" && event.Delta.Text != "" {
			q.progress(event.Delta.Text)
		}
	}
	err = stream.Err()
	if resp != nil { // without a response there is nothing to close, and Close would trip over it
		if closeErr := stream.Close(); err == nil {
			err = closeErr
		}
	}
	if err != nil {
		return answer{}, a.failure(err, resp, e, q.model)
	}
	if whole.StopReason == "" {
		return answer{}, errCutOff()
	}
	return readMessage(&whole)
}

func anthropicParams(q question) anthropic.MessageNewParams {
	p := anthropic.MessageNewParams{Model: q.model, MaxTokens: int64(q.maxTokens), StopSequences: q.stop}
	if system := joinPrompts(q.system, formatInstruction(q.format)); system != "" {
		p.System = []anthropic.TextBlockParam{{Text: system}}
	}
	for _, t := range q.turns {
		block := anthropic.NewTextBlock(t.text)
		if t.assistant {
			p.Messages = append(p.Messages, anthropic.NewAssistantMessage(block))
		} else {
			p.Messages = append(p.Messages, anthropic.NewUserMessage(block))
		}
	}
	// Newer models refuse temperature and top_p together, and some refuse a temperature at all:
	// what nobody asked for is not sent.
	if q.temperature != nil && !q.assumed {
		p.Temperature = param.NewOpt(min(*q.temperature, 1)) // the scale ends at 1 here, and at 2 elsewhere
	}
	if q.topP != nil {
		p.TopP = param.NewOpt(*q.topP)
	}
	if q.topK != nil {
		p.TopK = param.NewOpt(int64(*q.topK))
	}
	return p
}

func readMessage(m *anthropic.Message) (answer, error) {
	a := answer{
		model: m.Model,
		usage: Usage{
			// Tokens that were read from or written to a cache are input all the same.
			InputTokens:  m.Usage.InputTokens + m.Usage.CacheReadInputTokens + m.Usage.CacheCreationInputTokens,
			OutputTokens: m.Usage.OutputTokens,
		},
	}
	var text strings.Builder
	for _, block := range m.Content {
		if block.Type == "text" {
			text.WriteString(block.Text)
		}
	}
	a.text = text.String()
	switch m.StopReason {
	case anthropic.StopReasonEndTurn, anthropic.StopReasonStopSequence:
		a.finish = finishStop
	case anthropic.StopReasonMaxTokens:
		a.finish = finishLength
	case anthropic.StopReasonToolUse:
		a.finish = finishTools
	case anthropic.StopReasonRefusal:
		return a, refusal(first(m.StopDetails.Explanation, a.text))
	case anthropic.StopReasonModelContextWindowExceeded:
		return a, providerFailure{name: "anthropic", model: m.Model, code: "model_context_window_exceeded"}.error(&Error{})
	default:
		a.finish = finishOther
	}
	return a, nil
}

func (a claude) probe(ctx context.Context, c *call, model string) error {
	cl, e, err := a.client(c)
	if err != nil {
		return err
	}
	var resp *http.Response
	_, err = cl.models.List(ctx, anthropic.ModelListParams{Limit: param.NewOpt(int64(1))}, option.WithResponseInto(&resp))
	if err != nil {
		return a.failure(err, resp, e, model)
	}
	return nil
}

func (claude) failure(err error, resp *http.Response, e endpoint, model string) error {
	f := providerFailure{name: "anthropic", keyName: e.keyName, model: model}
	var header http.Header
	if resp != nil {
		f.status, header = resp.StatusCode, resp.Header
	}
	var api *anthropic.Error
	if errors.As(err, &api) {
		f.kind, f.message = string(api.Type()), anthropicMessage(api.RawJSON())
		f.status = anthropicStatus(api.Type(), f.status)
	} else if f.status < 400 {
		if f.status != 0 && isDecodeError(err) {
			return &Error{Class: Class5xx, Status: f.status, Message: "anthropic answered with something that is not its protocol; check base_url", Excerpt: rootText(err), cause: err}
		}
		return err
	}
	failed := statusError(f.status, header, "", "", "")
	failed.cause = err
	return f.error(failed)
}

// anthropicStatus is the status an error stands for when it came inside a stream that began with 200.
func anthropicStatus(kind anthropic.ErrorType, status int) int {
	if status >= 400 {
		return status
	}
	switch kind {
	case anthropic.ErrorTypeRateLimitError:
		return http.StatusTooManyRequests
	case anthropic.ErrorTypeAuthenticationError:
		return http.StatusUnauthorized
	case anthropic.ErrorTypePermissionError:
		return http.StatusForbidden
	case anthropic.ErrorTypeNotFoundError:
		return http.StatusNotFound
	case anthropic.ErrorTypeInvalidRequestError, anthropic.ErrorTypeBillingError:
		return http.StatusBadRequest
	case anthropic.ErrorTypeTimeoutError:
		return http.StatusGatewayTimeout
	case anthropic.ErrorTypeOverloadedError:
		return 529
	case anthropic.ErrorTypeAPIError:
		return http.StatusInternalServerError
	default:
		return http.StatusBadGateway
	}
}

func anthropicMessage(raw string) string {
	v, err := decodeJSON(raw)
	if err != nil {
		return raw
	}
	body, _ := v.(map[string]any)
	detail, _ := body["error"].(map[string]any)
	if message, ok := detail["message"].(string); ok {
		return message
	}
	return raw
}

var _ llmAdapter = claude{}
