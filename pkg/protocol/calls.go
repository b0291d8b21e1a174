package protocol

// Call is one question between services: its subject and both types in one value.
// The calls of each service stand in calls_<service>.go.
type Call[Req, Resp any] struct {
	// Subject is the name below agentflow.call., service first: "limiter.acquire".
	Subject string
}

// Reply wraps every answer of a call or a command: either a result or an error.
type Reply[T any] struct {
	OK    *T     `json:"ok,omitempty"`
	Error *Error `json:"error,omitempty"`
}
