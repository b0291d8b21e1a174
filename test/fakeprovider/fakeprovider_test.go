package fakeprovider_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/param"
	"github.com/stretchr/testify/require"
	"google.golang.org/genai"

	"github.com/agentflow/agentflow/test/fakeprovider"
)

// The official SDKs judge the wire formats: what they read is what the platform will read.

func openAI(s *fakeprovider.Server) *openai.Client {
	c := openai.NewClient(option.WithBaseURL(s.OpenAI()), option.WithAPIKey("a-key"), option.WithMaxRetries(0))
	return &c
}

func gemini(t *testing.T, s *fakeprovider.Server) *genai.Client {
	t.Helper()
	c, err := genai.NewClient(t.Context(), &genai.ClientConfig{
		APIKey: "a-key", Backend: genai.BackendGeminiAPI, HTTPOptions: genai.HTTPOptions{BaseURL: s.Gemini() + "/"},
	})
	require.NoError(t, err)
	return c
}

func claude(s *fakeprovider.Server) *anthropic.Client {
	c := anthropic.NewClient(anthropicoption.WithBaseURL(s.Anthropic()), anthropicoption.WithAPIKey("a-key"), anthropicoption.WithMaxRetries(0))
	return &c
}

func question() openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model:    "gpt-4o-mini",
		Messages: []openai.ChatCompletionMessageParamUnion{openai.SystemMessage("be brief"), openai.UserMessage("hello")},
	}
}

func claudeQuestion() anthropic.MessageNewParams {
	return anthropic.MessageNewParams{
		Model: "claude-3-5-haiku-latest", MaxTokens: 100, System: []anthropic.TextBlockParam{{Text: "be brief"}},
		Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("hello"))},
	}
}

func TestOpenAIChat(t *testing.T) {
	s := fakeprovider.New(t, nil)
	got, err := openAI(s).Chat.Completions.New(t.Context(), question(), option.WithHeader("Idempotency-Key", "exec/n/0"))
	require.NoError(t, err)
	require.Equal(t, "re: hello", got.Choices[0].Message.Content)
	require.Equal(t, "stop", got.Choices[0].FinishReason)
	require.EqualValues(t, fakeprovider.InputTokens, got.Usage.PromptTokens)
	require.EqualValues(t, fakeprovider.OutputTokens, got.Usage.CompletionTokens)

	asked := s.Requests()
	require.Len(t, asked, 1)
	r := asked[0]
	require.Equal(t, fakeprovider.OpenAI, r.Wire)
	require.Equal(t, "/chat/completions", r.Path)
	require.Equal(t, []any{"gpt-4o-mini", "be brief", "hello", 1, "a-key", "exec/n/0", 1},
		[]any{r.Model, r.System, r.Prompt, r.Turns, r.Key, r.IdempotencyKey, r.Number})
	require.Equal(t, map[string]int{"exec/n/0": 1}, s.Calls())
	require.Equal(t, "gpt-4o-mini", r.JSON()["model"])
}

func TestOpenAIStream(t *testing.T) {
	s := fakeprovider.New(t, func(fakeprovider.Request) fakeprovider.Reply {
		return fakeprovider.Reply{Text: "grüße aus dem Netz", Input: 3, Output: 5, Finish: fakeprovider.Length}
	})
	q := question()
	q.StreamOptions.IncludeUsage = param.NewOpt(true)
	stream := openAI(s).Chat.Completions.NewStreaming(t.Context(), q)
	var got openai.ChatCompletionAccumulator
	chunks := 0
	for stream.Next() {
		require.True(t, got.AddChunk(stream.Current()))
		chunks++
	}
	require.NoError(t, stream.Err())
	require.Equal(t, "grüße aus dem Netz", got.Choices[0].Message.Content)
	require.Equal(t, "length", got.Choices[0].FinishReason)
	require.EqualValues(t, 8, got.Usage.TotalTokens)
	require.Equal(t, 6, chunks, "the role, three pieces, the end and the usage")
	require.True(t, s.Requests()[0].Stream)
}

func TestOpenAIImage(t *testing.T) {
	s := fakeprovider.New(t, func(r fakeprovider.Request) fakeprovider.Reply {
		if r.Model == "dall-e-3" {
			return fakeprovider.Reply{Image: fakeprovider.Picture{URL: "https://pictures.example/" + r.Prompt}}
		}
		return fakeprovider.Reply{Image: fakeprovider.Picture{Data: []byte("picture")}}
	})
	got, err := openAI(s).Images.Generate(t.Context(), openai.ImageGenerateParams{Prompt: "cat", Model: "dall-e-3"})
	require.NoError(t, err)
	require.Equal(t, "https://pictures.example/cat", got.Data[0].URL)
	got, err = openAI(s).Images.Generate(t.Context(), openai.ImageGenerateParams{Prompt: "cat", Model: "gpt-image-1"})
	require.NoError(t, err)
	require.Equal(t, "cGljdHVyZQ==", got.Data[0].B64JSON)
	require.True(t, s.Requests()[1].Image)
}

func TestGemini(t *testing.T) {
	s := fakeprovider.New(t, nil)
	c := gemini(t, s)
	config := &genai.GenerateContentConfig{SystemInstruction: genai.NewContentFromText("be brief", genai.RoleUser)}
	got, err := c.Models.GenerateContent(t.Context(), "gemini-2.5-flash", genai.Text("hello"), config)
	require.NoError(t, err)
	require.Equal(t, "re: hello", got.Text())
	require.Equal(t, genai.FinishReasonStop, got.Candidates[0].FinishReason)
	require.EqualValues(t, fakeprovider.InputTokens+fakeprovider.OutputTokens, got.UsageMetadata.TotalTokenCount)

	var text strings.Builder
	chunks := 0
	for chunk, err := range c.Models.GenerateContentStream(t.Context(), "gemini-2.5-flash", genai.Text("hello"), config) {
		require.NoError(t, err)
		text.WriteString(chunk.Text())
		chunks++
	}
	require.Equal(t, "re: hello", text.String())
	require.Equal(t, 3, chunks)

	_, err = c.Models.Get(t.Context(), "gemini-2.5-flash", nil)
	require.NoError(t, err)

	asked := s.Requests()
	require.Len(t, asked, 3)
	require.Equal(t, []any{fakeprovider.Gemini, "gemini-2.5-flash", "be brief", "hello", "a-key", false},
		[]any{asked[0].Wire, asked[0].Model, asked[0].System, asked[0].Prompt, asked[0].Key, asked[0].Stream})
	require.True(t, asked[1].Stream)
	require.Equal(t, "/v1beta/models/gemini-2.5-flash:streamGenerateContent", asked[1].Path)
}

func TestGeminiImage(t *testing.T) {
	s := fakeprovider.New(t, func(fakeprovider.Request) fakeprovider.Reply {
		return fakeprovider.Reply{Image: fakeprovider.Picture{Data: []byte("picture")}}
	})
	got, err := gemini(t, s).Models.GenerateContent(t.Context(), "gemini-2.5-flash-image", genai.Text("a cat"),
		&genai.GenerateContentConfig{ResponseModalities: []string{"TEXT", "IMAGE"}})
	require.NoError(t, err)
	require.Equal(t, []byte("picture"), got.Candidates[0].Content.Parts[0].InlineData.Data)
	require.True(t, s.Requests()[0].Image)
}

func TestAnthropic(t *testing.T) {
	s := fakeprovider.New(t, nil)
	c := claude(s)
	got, err := c.Messages.New(t.Context(), claudeQuestion())
	require.NoError(t, err)
	require.Equal(t, "re: hello", got.Content[0].Text)
	require.EqualValues(t, fakeprovider.OutputTokens, got.Usage.OutputTokens)
	require.Equal(t, anthropic.StopReasonEndTurn, got.StopReason)

	stream := c.Messages.NewStreaming(t.Context(), claudeQuestion())
	var whole anthropic.Message
	for stream.Next() {
		require.NoError(t, whole.Accumulate(stream.Current()))
	}
	require.NoError(t, stream.Err())
	require.Equal(t, "re: hello", whole.Content[0].Text)
	require.EqualValues(t, fakeprovider.OutputTokens, whole.Usage.OutputTokens)
	require.EqualValues(t, fakeprovider.InputTokens, whole.Usage.InputTokens)
	r := s.Requests()[1]
	require.Equal(t, []any{fakeprovider.Anthropic, "be brief", "hello", "a-key", true}, []any{r.Wire, r.System, r.Prompt, r.Key, r.Stream})
}

func TestPlain(t *testing.T) {
	s := fakeprovider.New(t, func(r fakeprovider.Request) fakeprovider.Reply {
		switch r.Path {
		case "/stock":
			return fakeprovider.JSON(map[string]any{"sku": r.JSON()["sku"], "left": 3})
		case "/missing":
			return fakeprovider.Reply{Status: http.StatusNotFound, Text: "no such thing"}
		}
		return fakeprovider.Text("plain text")
	})
	call := func(method, path, body string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), method, s.Tools()+path, strings.NewReader(body))
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer func() { require.NoError(t, resp.Body.Close()) }()
		got, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(got)
	}
	status, body := call(http.MethodPost, "/stock", `{"sku":"a1"}`)
	require.Equal(t, http.StatusOK, status)
	require.JSONEq(t, `{"sku":"a1","left":3}`, body)
	status, body = call(http.MethodGet, "/missing?x=1", "")
	require.Equal(t, http.StatusNotFound, status)
	require.JSONEq(t, `{"error":"no such thing"}`, body)
	_, body = call(http.MethodGet, "/", "")
	require.Equal(t, "plain text", body)
	require.Equal(t, "x=1", s.Requests()[1].Query)
}

// TestFailures holds each failure against what the SDKs make of it.
func TestFailures(t *testing.T) {
	s := fakeprovider.New(t, nil)
	ask := map[string]func(ctx context.Context) (status int, header http.Header, err error){
		"openai": func(ctx context.Context) (int, http.Header, error) {
			_, err := openAI(s).Chat.Completions.New(ctx, question())
			var api *openai.Error
			if errors.As(err, &api) {
				return api.StatusCode, api.Response.Header, err
			}
			return 0, nil, err
		},
		"gemini": func(ctx context.Context) (int, http.Header, error) {
			_, err := gemini(t, s).Models.GenerateContent(ctx, "m", genai.Text("hello"), nil)
			var api genai.APIError
			if errors.As(err, &api) {
				return api.Code, nil, err
			}
			return 0, nil, err
		},
		"anthropic": func(ctx context.Context) (int, http.Header, error) {
			_, err := claude(s).Messages.New(ctx, claudeQuestion())
			var api *anthropic.Error
			if errors.As(err, &api) {
				return api.StatusCode, api.Response.Header, err
			}
			return 0, nil, err
		},
	}
	for name, f := range ask {
		for _, c := range []struct {
			reply  fakeprovider.Reply
			status int
		}{
			{fakeprovider.Unauthorized(), 401},
			{fakeprovider.TooMany("7"), 429},
			{fakeprovider.Broken(), 500},
			{fakeprovider.Reply{Status: 503, Text: "overloaded"}, 503},
			{fakeprovider.Reply{Fault: fakeprovider.Disconnect}, 0},
			{fakeprovider.Reply{Fault: fakeprovider.CutOff, Text: "never seen whole"}, 0},
			{fakeprovider.Reply{Fault: fakeprovider.Garbage}, 0},
		} {
			s.Follow(func(fakeprovider.Request) fakeprovider.Reply { return c.reply })
			got, header, err := f(t.Context())
			require.Error(t, err, "%s %+v", name, c)
			require.Equal(t, c.status, got, "%s %+v: %v", name, c, err)
			if got == 429 && header != nil {
				require.Equal(t, "7", header.Get("Retry-After"))
			}
		}
	}
}

// TestStreamsThatBreak: a stream that is cut off never says that the model has finished.
func TestStreamsThatBreak(t *testing.T) {
	s := fakeprovider.New(t, func(fakeprovider.Request) fakeprovider.Reply {
		return fakeprovider.Reply{Text: "half an answer", Fault: fakeprovider.CutOff}
	})
	stream := openAI(s).Chat.Completions.NewStreaming(t.Context(), question())
	var text strings.Builder
	for stream.Next() {
		choice := stream.Current().Choices[0]
		text.WriteString(choice.Delta.Content)
		require.Empty(t, choice.FinishReason)
	}
	require.Error(t, stream.Err())
	require.Equal(t, "half an answer", text.String())

	text.Reset()
	for chunk, err := range gemini(t, s).Models.GenerateContentStream(t.Context(), "m", genai.Text("hello"), nil) {
		if err != nil {
			break // the SDK may as well take the end of the connection for the end of the stream
		}
		text.WriteString(chunk.Text())
		require.Empty(t, chunk.Candidates[0].FinishReason)
	}
	require.Equal(t, "half an ", text.String()[:8])
	require.NotEqual(t, "half an answer", text.String())

	answer := claude(s).Messages.NewStreaming(t.Context(), claudeQuestion())
	for answer.Next() {
		require.Empty(t, answer.Current().Delta.StopReason)
	}
	require.Error(t, answer.Err())
}

// TestHang: a hanging request holds nobody else, and lets go when its caller does.
func TestHang(t *testing.T) {
	held := make(chan struct{})
	var once sync.Once
	s := fakeprovider.New(t, func(r fakeprovider.Request) fakeprovider.Reply {
		if r.System == "hang" {
			once.Do(func() { close(held) })
			return fakeprovider.Reply{Fault: fakeprovider.Hang}
		}
		return fakeprovider.Reply{Text: "here", Delay: time.Millisecond}
	})
	q := question()
	q.Messages[0] = openai.SystemMessage("hang")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := openAI(s).Chat.Completions.New(ctx, q)
		done <- err
	}()
	<-held
	got, err := openAI(s).Chat.Completions.New(t.Context(), question())
	require.NoError(t, err)
	require.Equal(t, "here", got.Choices[0].Message.Content)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
}

func TestKeys(t *testing.T) {
	s := fakeprovider.New(t, nil)
	s.Demand("another-key")
	_, err := openAI(s).Chat.Completions.New(t.Context(), question())
	var api *openai.Error
	require.ErrorAs(t, err, &api)
	require.Equal(t, 401, api.StatusCode)
	_, err = gemini(t, s).Models.GenerateContent(t.Context(), "m", genai.Text("hello"), nil)
	var status genai.APIError
	require.ErrorAs(t, err, &status)
	require.Equal(t, 401, status.Code)
	require.Zero(t, s.Count(), "a refused key is not a request")
	s.Demand("a-key")
	_, err = openAI(s).Chat.Completions.New(t.Context(), question())
	require.NoError(t, err)
}

func TestBadRequests(t *testing.T) {
	s := fakeprovider.New(t, nil)
	q := question()
	q.Messages = nil
	_, err := openAI(s).Chat.Completions.New(t.Context(), q)
	var api *openai.Error
	require.ErrorAs(t, err, &api)
	require.Equal(t, 400, api.StatusCode)
}

func TestAfter(t *testing.T) {
	answered := make(chan struct{})
	s := fakeprovider.New(t, func(fakeprovider.Request) fakeprovider.Reply {
		return fakeprovider.Reply{Text: "hi", After: func() { close(answered) }}
	})
	_, err := openAI(s).Chat.Completions.New(t.Context(), question())
	require.NoError(t, err)
	<-answered
}
