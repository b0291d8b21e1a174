package fakeprovider

import (
	"net/http"
	"time"
)

// Reply is an answer, or what stands in its way.
type Reply struct {
	Text   string // of a failure its message
	Finish Finish // why the model stopped; stop when empty
	Input  int64  // tokens; InputTokens when 0. Of a picture nothing is counted unless it is said here
	Output int64  // tokens; OutputTokens when 0
	Image  Picture

	JSON any // the answer of a tool, in place of Text

	Delay      time.Duration // before anything is answered
	Status     int           // 400 and above: a failure in the format's own shape
	Code       string        // of a failure, the provider's word for it
	RetryAfter string        // the header
	Fault      Fault
	After      func() // is called when the answer has been sent
}

// Finish says why a model stopped.
type Finish string

// Reasons to stop. Each format has its own word for them.
const (
	Stopped  Finish = "stop"
	Length   Finish = "length"
	Filtered Finish = "filter"
)

// Fault is a way not to answer.
type Fault int

// Faults.
const (
	None       Fault = iota
	Hang             // says nothing until the caller gives up
	Disconnect       // drops the connection before a word
	CutOff           // drops the connection in the middle of a stream; without a stream, of the body
	Garbage          // answers 200 with a page of HTML
)

// Picture is the image of an answer: an address, or the data itself.
type Picture struct {
	URL  string
	Data []byte
	MIME string // of the data; image/png when empty
}

func (p Picture) mime() string {
	if p.MIME == "" {
		return "image/png"
	}
	return p.MIME
}

// Text answers with a text.
func Text(text string) Reply { return Reply{Text: text} }

// JSON answers a tool's caller with a document.
func JSON(v any) Reply { return Reply{JSON: v} }

// Unauthorized refuses the key.
func Unauthorized() Reply {
	return Reply{Status: http.StatusUnauthorized, Text: "Incorrect API key provided", Code: "invalid_api_key"}
}

// TooMany asks the caller to come back later, in so many seconds or at a date.
func TooMany(retryAfter string) Reply {
	return Reply{Status: http.StatusTooManyRequests, Text: "Rate limit reached", Code: "rate_limit_exceeded", RetryAfter: retryAfter}
}

// Broken is a failure of the provider's own.
func Broken() Reply {
	return Reply{Status: http.StatusInternalServerError, Text: "The server had an error", Code: "server_error"}
}

func (r Reply) usage() (in, out int64) {
	in, out = r.Input, r.Output
	if in == 0 {
		in = InputTokens
	}
	if out == 0 {
		out = OutputTokens
	}
	return in, out
}
