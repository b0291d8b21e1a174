package source

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/shopspring/decimal"
)

// fake is a model provider over a real socket: it remembers what it was asked and answers what
// the test has queued, in the provider's own wire format.
type fake struct {
	tb      testing.TB
	URL     string
	mu      sync.Mutex
	asked   []asked
	answers []func(http.ResponseWriter, *http.Request)
}

type asked struct {
	path   string
	query  string
	header http.Header
	body   map[string]any
}

func newFake(tb testing.TB) *fake {
	tb.Helper()
	f := &fake{tb: tb}
	f.URL = startServer(tb, f.serve)
	return f
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request) {
	raw, _ := io.ReadAll(r.Body)
	a := asked{path: r.URL.Path, query: r.URL.RawQuery, header: r.Header.Clone()}
	_ = json.Unmarshal(raw, &a.body)
	f.mu.Lock()
	f.asked = append(f.asked, a)
	var next func(http.ResponseWriter, *http.Request)
	if len(f.answers) > 0 {
		next, f.answers = f.answers[0], f.answers[1:]
	}
	f.mu.Unlock()
	if next == nil {
		writeJSON(w, 418, `{"error":{"message":"the test queued no answer"}}`)
		return
	}
	next(w, r)
}

// json queues an answer.
func (f *fake) json(status int, body string, header ...string) {
	f.queue(func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		writeJSON(w, status, body)
	})
}

// events queues a stream of server-sent events; an item may bring its own "event: name\n" line.
func (f *fake) events(items ...string) {
	f.queue(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, item := range items {
			if !strings.HasPrefix(item, "event:") {
				item = "data: " + item
			}
			_, _ = fmt.Fprint(w, item+"\n\n")
			w.(http.Flusher).Flush()
		}
	})
}

func (f *fake) queue(answer func(http.ResponseWriter, *http.Request)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers = append(f.answers, answer)
}

// last is what the fake was asked most recently.
func (f *fake) last() asked {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.asked) == 0 {
		f.tb.Fatal("the fake was not asked")
	}
	return f.asked[len(f.asked)-1]
}

func (f *fake) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.asked)
}

// The wire formats, as the providers document them.

func chatCompletion(content, finish string) string {
	return fmt.Sprintf(`{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"gpt-4o-mini-2024-07-18",
		"choices":[{"index":0,"message":{"role":"assistant","content":%s,"refusal":null},"logprobs":null,"finish_reason":%q}],
		"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}}`, content, finish)
}

func chatChunk(delta, finish string) string {
	if finish != "null" {
		finish = `"` + finish + `"`
	}
	return fmt.Sprintf(`{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-4o-mini-2024-07-18",
		"choices":[{"index":0,"delta":%s,"finish_reason":%s}],"usage":null}`, strings.ReplaceAll(delta, "\n", ""), finish)
}

const chatUsageChunk = `{"id":"chatcmpl-1","object":"chat.completion.chunk","model":"gpt-4o-mini-2024-07-18","choices":[],"usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}}`

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func claudeMessage(text, stop string) string {
	return fmt.Sprintf(`{"id":"msg_1","type":"message","role":"assistant","model":"claude-3-5-haiku-20241022",
		"content":[{"type":"text","text":%s}],"stop_reason":%q,"stop_sequence":null,
		"usage":{"input_tokens":11,"cache_creation_input_tokens":0,"cache_read_input_tokens":2,"output_tokens":7}}`, text, stop)
}

func geminiContent(text, finish string) string {
	return fmt.Sprintf(`{"candidates":[{"content":{"parts":[{"text":%s}],"role":"model"},"finishReason":%q,"index":0}],
		"usageMetadata":{"promptTokenCount":11,"candidatesTokenCount":5,"thoughtsTokenCount":2,"totalTokenCount":18},
		"modelVersion":"gemini-2.5-flash"}`, text, finish)
}

func dec(s string) decimal.Decimal { return decimal.RequireFromString(s) }
