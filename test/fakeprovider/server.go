package fakeprovider

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// Script answers a request. It is called on the goroutine of that request, as soon as the request has arrived and has
// been remembered: a script that blocks holds its request, and no other.
type Script func(Request) Reply

// Wire is a format that requests come in.
type Wire string

// The formats. Plain is what is not for a model: every address below /tools.
const (
	OpenAI    Wire = "openai"
	Gemini    Wire = "gemini"
	Anthropic Wire = "anthropic"
	Plain     Wire = "plain"
)

// Request is what the server was asked.
type Request struct {
	Number         int // 1 for the first request of the server
	Wire           Wire
	Method         string
	Path           string // below the prefix of the wire format
	Query          string
	Header         http.Header
	Body           []byte
	IdempotencyKey string
	Key            string // the API key, however the format carries it

	Model  string
	System string
	Prompt string // the last thing that the user said; of an image, what to draw
	Turns  int    // messages of the conversation, without the system's
	Image  bool   // asks for a picture
	Stream bool   // asks for the answer in pieces
}

// JSON decodes the body, which must be an object.
func (r Request) JSON() map[string]any {
	var body map[string]any
	if err := json.Unmarshal(r.Body, &body); err != nil {
		return nil
	}
	return body
}

// Tokens that an answer counts unless its reply says otherwise.
const (
	InputTokens  = 11
	OutputTokens = 7
)

// Server is a running provider.
type Server struct {
	// URL is the root of the server. Tests name the address of a format, such as [Server.OpenAI].
	URL string

	key    string
	closed context.Context //nolint:containedctx // ends when the server does, to let go of the requests it holds

	mu     sync.Mutex
	script Script
	asked  []Request
	calls  map[string]int // by idempotency key
}

// New starts a server that ends with the test.
func New(tb testing.TB, script Script) *Server {
	tb.Helper()
	s, stop := Start(script)
	tb.Cleanup(stop)
	return s
}

// Start starts a server. Without a script it answers a prompt with "re: " and the prompt.
func Start(script Script) (s *Server, stop func()) {
	s = &Server{script: script, calls: map[string]int{}}
	if script == nil {
		s.script = func(r Request) Reply { return Text("re: " + r.Prompt) }
	}
	var hangUp context.CancelFunc
	s.closed, hangUp = context.WithCancel(context.Background())
	web := httptest.NewServer(s.routes())
	s.URL = web.URL
	return s, func() {
		hangUp()
		web.CloseClientConnections()
		web.Close()
	}
}

// Demand makes the server refuse every API key but this one. Without it any key will do, but there must be one.
func (s *Server) Demand(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key = key
}

// Follow changes the script.
func (s *Server) Follow(script Script) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = script
}

// OpenAI is the base URL of the chat completions and images API.
func (s *Server) OpenAI() string { return s.URL + "/openai/v1" }

// Gemini is the base URL of the Gemini API.
func (s *Server) Gemini() string { return s.URL + "/gemini" }

// Anthropic is the base URL of the messages API.
func (s *Server) Anthropic() string { return s.URL + "/anthropic" }

// Tools is the base URL of plain HTTP.
func (s *Server) Tools() string { return s.URL + "/tools" }

// Requests are all requests so far, in the order in which they arrived.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Request(nil), s.asked...)
}

// Count is the number of requests so far.
func (s *Server) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

// Calls is how often each idempotency key was sent.
func (s *Server) Calls() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := make(map[string]int, len(s.calls))
	for key, n := range s.calls {
		calls[key] = n
	}
	return calls
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, f format) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) { s.serve(w, r, f) })
	}
	handle("POST /openai/v1/chat/completions", openAIChat{})
	handle("POST /openai/v1/images/generations", openAIImage{})
	handle("GET /openai/v1/models", openAIModels{})
	handle("POST /gemini/v1beta/models/{call}", geminiCall{})
	handle("GET /gemini/v1beta/models/{model}", geminiModel{})
	handle("POST /anthropic/v1/messages", anthropicMessages{})
	handle("/tools/", plain{})
	return mux
}

// format reads the requests of one endpoint and writes its answers.
type format interface {
	// read fills in what the format says. It returns the API key as this format carries it.
	read(r *http.Request, into *Request) error
	write(w http.ResponseWriter, r Request, reply Reply)
	refuse(w http.ResponseWriter, status int, reply Reply)
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request, f format) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the caller has gone
	}
	req := Request{
		Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Header: r.Header.Clone(), Body: body,
		IdempotencyKey: r.Header.Get("Idempotency-Key"),
	}
	if err := f.read(r, &req); err != nil {
		f.refuse(w, http.StatusBadRequest, Reply{Text: err.Error(), Code: "invalid_request_error"})
		return
	}
	if req.Wire != Plain && !s.opens(req.Key) {
		f.refuse(w, http.StatusUnauthorized, Reply{Text: "Incorrect API key provided: " + req.Key, Code: "invalid_api_key"})
		return
	}
	script := s.remember(&req)
	reply := script(req)
	s.answer(w, r, f, req, reply)
	if reply.After != nil {
		reply.After()
	}
}

// opens tells whether a key is good.
func (s *Server) opens(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return key != "" && (s.key == "" || s.key == key)
}

func (s *Server) remember(req *Request) Script {
	s.mu.Lock()
	defer s.mu.Unlock()
	req.Number = len(s.asked) + 1
	s.asked = append(s.asked, *req)
	if req.IdempotencyKey != "" {
		s.calls[req.IdempotencyKey]++
	}
	return s.script
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request, f format, req Request, reply Reply) {
	if !s.wait(r.Context(), reply.Delay) {
		return
	}
	switch reply.Fault {
	case Hang:
		select {
		case <-r.Context().Done():
		case <-s.closed.Done():
		}
		panic(http.ErrAbortHandler)
	case Disconnect:
		panic(http.ErrAbortHandler)
	case Garbage:
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<html>a proxy speaks</html>")
		return
	case None, CutOff:
	}
	if reply.RetryAfter != "" {
		w.Header().Set("Retry-After", reply.RetryAfter)
	}
	if reply.Status >= http.StatusBadRequest {
		f.refuse(w, reply.Status, reply)
	} else {
		f.write(w, req, reply)
	}
	flush(w)
}

// wait is false when the caller or the server gives up first.
func (s *Server) wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-s.closed.Done():
	}
	return false
}

func flush(w http.ResponseWriter) {
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error":{"message":"the script's answer is not JSON"}}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a caller that has gone has its reasons
}

// stream writes server-sent events; with cut it drops the connection before the last one.
func stream(w http.ResponseWriter, cut bool, events ...string) {
	w.Header().Set("Content-Type", "text/event-stream")
	if cut && len(events) > 0 {
		events = events[:len(events)-1]
	}
	for _, e := range events {
		_, _ = io.WriteString(w, e+"\n\n")
		flush(w)
	}
	if cut {
		panic(http.ErrAbortHandler)
	}
}

// pieces cuts an answer in up to three, as a stream would.
func pieces(text string) []string {
	runes := []rune(text)
	size := max(1, (len(runes)+2)/3)
	var out []string
	for len(runes) > 0 {
		n := min(size, len(runes))
		out, runes = append(out, string(runes[:n])), runes[n:]
	}
	return out
}

func data(v any) string {
	body, err := json.Marshal(v)
	if err != nil {
		return `data: {"error":{"message":"the script's answer is not JSON"}}`
	}
	return "data: " + string(body)
}

// texts joins the texts of a content that is a string or a list of parts.
func texts(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	var parts []struct {
		Text string `json:"text"`
	}
	if json.Unmarshal(raw, &parts) != nil {
		return ""
	}
	all := make([]string, len(parts))
	for i, p := range parts {
		all[i] = p.Text
	}
	return strings.Join(all, "")
}
