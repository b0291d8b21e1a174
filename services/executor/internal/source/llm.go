package source

import (
	"context"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/agentflow/agentflow/pkg/workflow"
)

func init() {
	registerKind(Kind{
		Kind: "llm", Name: "Language model", Description: "Asks a language model, through the provider's own SDK.",
		Required: []Field{
			{"model", "string", "", "Name of the model; model_name is the same"},
		},
		Optional: []Field{
			{"provider", "string", defaultProvider, "One of the providers below"},
			{"api_key_env", "env", "by provider", "Variable with the API key"},
			{"base_url", "string", "by provider", "Where the provider's API stands"},
			{"api_version", "string", "", "Version of the Azure API; without it the versionless v1 API is called"},
			{"deployment", "string", "the model", "Name of the Azure deployment, where it differs from the model's"},
			{"temperature", "number", "0.7", "Used when the node names none"},
			{"max_tokens", "integer", "4096", "Used when the node names none"},
			{"top_p", "number", "", "Used when the node names none"},
			{"top_k", "integer", "", "Used when the node names none, by providers that know it"},
			{"timeout", "number", "", "Seconds one attempt may take"},
			{"max_retries", "integer", "the node's", "Attempts after the first, at most 3"},
			{"price_per_1k_input", "number", "price table", "US dollars for 1,000 tokens of input"},
			{"price_per_1k_output", "number", "price table", "US dollars for 1,000 tokens of output"},
		},
	})
}

// The contract's defaults.
const (
	defaultTemperature = 0.7
	defaultMaxTokens   = 4096
)

// question is a request with everything settled: what an adapter puts on the wire.
type question struct {
	model       string
	system      string
	turns       []turn
	temperature *float64
	assumed     bool // the temperature is the contract's default, which nobody asked for
	topP        *float64
	topK        *int
	maxTokens   int
	stop        []string
	format      Format
	progress    func(string) // nil: answer in one piece
}

// turn is one message of the conversation.
type turn struct {
	assistant bool
	text      string
}

// answer is what an adapter read off the wire.
type answer struct {
	text   string
	model  string
	finish string
	usage  Usage // zero when the provider reported none
}

// Finish reasons, whatever the provider calls them.
const (
	finishStop   = "stop"
	finishLength = "length"
	finishTools  = "tool_calls"
	finishFilter = "content_filter"
	finishOther  = "other"
)

// LLM asks a language model. An empty answer is an error, never an empty success.
func (s *Sources) LLM(ctx context.Context, caller Caller, src workflow.Source, req LLMRequest) (LLMResponse, error) {
	c := s.newCall(caller, src)
	provider, err := providerOf("llm", c.config)
	if err != nil {
		return LLMResponse{}, c.invalid("%s", err.Error())
	}
	c.provider = provider.Name
	q, err := c.settle(req, provider)
	if err != nil {
		return LLMResponse{}, err
	}
	ctx, cancel := deadline(ctx, c.clampTimeout(req.Timeout), providerTimeout)
	defer cancel()
	return c.ask(ctx, registered.llm[provider.Name], q)
}

// settle merges the request with the source's settings and the contract's defaults.
func (c *call) settle(req LLMRequest, provider Provider) (question, error) {
	q := question{
		model:       c.config.text("model", "model_name"),
		system:      req.System,
		turns:       []turn{{text: req.Prompt}},
		temperature: req.Temperature,
		topP:        req.TopP,
		topK:        req.TopK,
		maxTokens:   req.MaxTokens,
		stop:        req.Stop,
		format:      req.Format,
		progress:    c.caller.Progress,
	}
	if q.model == "" && provider.Name != "echo" {
		return q, c.invalid("model is missing: name the model to ask")
	}
	if strings.TrimSpace(req.Prompt) == "" {
		return q, c.invalid("the prompt is empty")
	}
	if q.temperature == nil {
		t, ok := c.config.float("temperature")
		if !ok {
			t, q.assumed = defaultTemperature, true
		}
		q.temperature = &t
	}
	if q.topP == nil {
		if p, ok := c.config.float("top_p"); ok {
			q.topP = &p
		}
	}
	if q.topK == nil {
		if k, ok := c.config.integer("top_k"); ok {
			q.topK = &k
		}
	}
	if q.maxTokens <= 0 {
		q.maxTokens = defaultMaxTokens
		if n, ok := c.config.integer("max_tokens"); ok && n > 0 {
			q.maxTokens = n
		}
	}
	return q, nil
}

// ask gets an answer and, where a format is asked for, one that meets it: a first answer that
// does not is shown to the model once, with what is wrong about it.
func (c *call) ask(ctx context.Context, adapter llmAdapter, q question) (LLMResponse, error) {
	check, err := newFormatCheck(q.format)
	if err != nil {
		return LLMResponse{}, c.invalid("%s", err.Error())
	}
	first, err := c.complete(ctx, adapter, q)
	if err != nil {
		// An answer that was withheld or cut off was paid for.
		return c.spent(LLMResponse{Provider: c.provider, Model: c.seen.Mask(first.model), Usage: first.usage}), err
	}
	resp := LLMResponse{Provider: c.provider, Text: first.text, Model: first.model, FinishReason: first.finish, Usage: first.usage}
	if q.format.JSON {
		value, text, problem := check.read(first.text)
		if problem != nil {
			q.turns = append(q.turns, turn{assistant: true, text: first.text}, turn{text: repairPrompt(problem)})
			if c.caller.IdempotencyKey != "" {
				c.caller.IdempotencyKey += "/repair" // another question is another call
			}
			second, err := c.complete(ctx, adapter, q)
			resp.Usage = addUsage(resp.Usage, second.usage)
			if err != nil {
				return c.spent(resp), err
			}
			resp.Repaired, resp.FinishReason, resp.Model = true, second.finish, second.model
			if value, text, problem = check.read(second.text); problem != nil {
				return c.spent(resp), c.own(ctx, &Error{
					Class: ClassFormat, Excerpt: second.text, cause: problem,
					Message: "the model answered twice without meeting response_format: " + problem.Error() + formatHint(second.finish),
				})
			}
		}
		resp.JSON, resp.Text = value, text
	}
	return c.spent(resp), nil
}

func formatHint(finish string) string {
	if finish == finishLength {
		return " (the answer was cut off: raise max_tokens)"
	}
	return ""
}

// spent adds what the call cost; a failed call reports it too.
func (c *call) spent(resp LLMResponse) LLMResponse {
	model := resp.Model
	if model == "" {
		model = c.config.text("model", "model_name")
	}
	resp.Cost = c.cost(c.config.text("model", "model_name"), model, resp.Usage)
	return resp
}

func addUsage(a, b Usage) Usage {
	return Usage{
		InputTokens: a.InputTokens + b.InputTokens, OutputTokens: a.OutputTokens + b.OutputTokens,
		Estimated: a.Estimated || b.Estimated,
	}
}

// complete makes one attempt and refuses an answer that says nothing.
func (c *call) complete(ctx context.Context, adapter llmAdapter, q question) (answer, error) {
	began := time.Now()
	ctx, span := c.span(ctx, "chat "+q.model, c.asked(q)...)
	var a answer
	err := c.breakers.do(c.breakerKey(), func() error {
		var err error
		if progress := q.progress; progress != nil {
			// A secret may come in two pieces: what could be the start of one waits for the next.
			stream := c.seen.Stream(progress)
			defer stream.Flush()
			q.progress = stream.Write
		}
		a, err = adapter.complete(ctx, c, q)
		if err == nil {
			err = judge(a)
		}
		return c.own(ctx, err)
	})
	err = c.own(ctx, err)
	if err == nil {
		a.text, a.model = c.seen.Mask(a.text), c.seen.Mask(a.model)
		if a.usage.Total() == 0 {
			a.usage = estimate(q, a.text)
		}
		span.SetAttributes(answered(a)...)
	}
	end(span, err)
	c.report(time.Since(began), err, a.usage)
	return a, err
}

func judge(a answer) error {
	if strings.TrimSpace(a.text) != "" {
		if a.finish == finishFilter {
			return &Error{Class: ClassSafety, Code: finishFilter, Message: "the provider's content filter cut the answer off; rephrase the prompt or adjust the provider's filter", Excerpt: a.text}
		}
		return nil
	}
	switch a.finish {
	case finishFilter:
		return &Error{Class: ClassSafety, Code: finishFilter, Message: "the provider's content filter withheld the answer; rephrase the prompt or adjust the provider's filter"}
	case finishLength:
		return &Error{Class: ClassEmpty, Code: finishLength, Message: "the model used up max_tokens before it answered anything; raise max_tokens"}
	case finishTools:
		return &Error{Class: ClassEmpty, Code: finishTools, Message: "the model asked for a tool instead of answering"}
	default:
		return &Error{Class: ClassEmpty, Code: a.finish, Message: "the model answered nothing; check the prompt, or try again"}
	}
}

// estimate counts four characters as a token, rounded up, where the provider reported nothing.
func estimate(q question, text string) Usage {
	in := utf8.RuneCountInString(q.system)
	for _, t := range q.turns {
		in += utf8.RuneCountInString(t.text)
	}
	return Usage{InputTokens: tokens(in), OutputTokens: tokens(utf8.RuneCountInString(text)), Estimated: true}
}

func tokens(characters int) int64 { return int64(characters+3) / 4 }

// EstimateTokens is the estimate by which tokens are reserved before a call: the prompt's
// characters / 4 and the most the model may answer.
func EstimateTokens(src workflow.Source, req LLMRequest) int64 {
	out := req.MaxTokens
	if out <= 0 {
		out = defaultMaxTokens
		if n, ok := config(src.Config).integer("max_tokens"); ok && n > 0 {
			out = n
		}
	}
	return tokens(utf8.RuneCountInString(req.System)+utf8.RuneCountInString(req.Prompt)) + int64(out)
}
