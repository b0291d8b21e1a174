package protocol

import (
	"fmt"

	"github.com/agentflow/agentflow/pkg/workflow"
)

// The limiter's calls.
var (
	AcquireLimit = Call[AcquireRequest, Grant]{Subject: "limiter.acquire"}
	SettleLimit  = Call[SettleRequest, SettleReply]{Subject: "limiter.settle"}
	LimitUsage   = Call[UsageRequest, Usage]{Subject: "limiter.usage"}
	CloseLimit   = Call[CloseRequest, CloseReply]{Subject: "limiter.close"}
	ResetLimit   = Call[ResetRequest, ResetReply]{Subject: "limiter.reset"}
)

// Metric is one thing that a bucket counts.
type Metric string

// The three metrics of the plan, and the closed state of a key.
const (
	MetricMessages Metric = "messages_per_second"
	MetricRequests Metric = "requests_per_minute"
	MetricTokens   Metric = "tokens_per_minute"
	MetricClosed   Metric = "closed" // shut until a provider's Retry-After has passed
	// MetricUnavailable stands where nothing is known: Redis or the limiter is away, and the policy is to wait.
	MetricUnavailable Metric = "unavailable"
)

// Bounds of what the limiter takes. Larger limits are held as these.
const (
	MaxRate          = 10_000_000    // messages per second, burst, requests per minute
	MaxTokenRate     = 1_000_000_000 // LLM tokens per minute, and of one ask
	MaxQueueName     = 256           // bytes
	MaxReservation   = 128           // bytes
	MaxBehind        = 64            // asks behind the first
	MaxReservationMS = 60 * 60 * 1000
	MaxCloseMS       = 24 * 60 * 60 * 1000
)

// AcquireRequest asks for room in one queue. Limits travel with the request, so the limiter
// keeps no configuration; all metrics are granted together or not at all.
type AcquireRequest struct {
	Tenant   TenantID           `json:"tenant"`
	Queue    string             `json:"queue"`               // a queue of a workflow, or a source's key, or the tenant itself
	SubQueue string             `json:"sub_queue,omitempty"` // a weighted share of the queue
	Weight   float64            `json:"weight,omitempty"`    // the share, above 0 and up to 1, when SubQueue is given
	Limits   workflow.Bandwidth `json:"limits"`
	Closable string             `json:"closable,omitempty"` // also refuse while this key is closed

	Messages    int    `json:"messages"`
	Requests    int    `json:"requests"`
	Tokens      int    `json:"tokens"`                // LLM tokens, an estimate: settle it
	Reservation string `json:"reservation,omitempty"` // names the reserved tokens for settle; idempotent

	// Behind are the asks that stand in line behind this one. They are granted in order, as far
	// as there is room, in the same step.
	Behind []Want `json:"behind,omitempty"`
	// Waits says that who asks comes back for what is refused, at the turn it is told.
	Waits bool `json:"waits,omitempty"`
	// ReservationMS is how long the named reservations live when nobody settles them, 0 for a minute.
	ReservationMS int64 `json:"reservation_ms,omitempty"`
}

// Want is what an ask behind the first is for.
type Want struct {
	Messages    int    `json:"messages"`
	Requests    int    `json:"requests"`
	Tokens      int    `json:"tokens"`
	Reservation string `json:"reservation,omitempty"`
}

// Grant is the limiter's answer.
type Grant struct {
	Granted        bool             `json:"granted"`
	Behind         int              `json:"behind,omitempty"`          // how many of those behind were granted too
	RetryAfterMS   int64            `json:"retry_after_ms"`            // until the first that was refused may pass; 0 when none was
	TurnMS         int64            `json:"turn_ms,omitempty"`         // when one who waits should come back: later than that where others wait too
	LimitingMetric Metric           `json:"limiting_metric,omitempty"` // what refused it
	Remaining      map[Metric]int64 `json:"remaining,omitempty"`       // -1: unlimited
	ResetMS        map[Metric]int64 `json:"reset_ms,omitempty"`        // until all of it is there again
	AtUS           int64            `json:"at_us,omitempty"`           // the moment of the decision by Redis's clock, microseconds since 1970
	Degraded       bool             `json:"degraded,omitempty"`        // Redis is away: granted by policy, not by count
}

// SettleRequest tells what a reservation really used.
type SettleRequest struct {
	Tenant      TenantID           `json:"tenant"`
	Queue       string             `json:"queue"`
	SubQueue    string             `json:"sub_queue,omitempty"`
	Weight      float64            `json:"weight,omitempty"`
	Limits      workflow.Bandwidth `json:"limits"`
	Reservation string             `json:"reservation"`
	Used        int                `json:"used"` // LLM tokens
}

// SettleReply says what was given back (negative: what was taken in addition). It is 0 for a
// reservation that was settled before or whose time was up.
type SettleReply struct {
	Returned int `json:"returned"`
}

// UsageRequest reads counters of one queue, or of a share of it.
type UsageRequest struct {
	Tenant   TenantID `json:"tenant"`
	Queue    string   `json:"queue"`
	SubQueue string   `json:"sub_queue,omitempty"`
}

// Usage is what passed a queue lately. A metric that the queue does not limit counts nothing.
type Usage struct {
	Queue    string                 `json:"queue"`
	Windows  map[Metric]UsageWindow `json:"windows"`
	ClosedMS int64                  `json:"closed_ms,omitempty"` // time left until a closed key opens
}

// UsageWindow is what one metric counted.
type UsageWindow struct {
	Used     int64 `json:"used"`      // in the window that ends now
	WindowMS int64 `json:"window_ms"` // its length: a second or a minute
	Refused  int64 `json:"refused"`   // asks, since the running minute began
}

// CloseRequest shuts a key for the whole fleet, as a provider's 429 asks.
type CloseRequest struct {
	Tenant  TenantID `json:"tenant"`
	Queue   string   `json:"queue"`
	ForMS   int64    `json:"for_ms"`
	Because string   `json:"because,omitempty"`
}

// CloseReply says until when the key is shut; a longer closing stands.
type CloseReply struct {
	Until Time `json:"until"`
}

// ResetRequest forgets everything about a queue; for administrators.
type ResetRequest struct {
	Tenant TenantID `json:"tenant"`
	Queue  string   `json:"queue"`
}

// ResetReply says how many keys were removed.
type ResetReply struct {
	Removed int `json:"removed"`
}

// SourceQueue is the key of a source: closed while its provider wants no calls.
func SourceQueue(source string) string { return "source/" + source }

// Check tells what of the request cannot be, naming the field.
func (r AcquireRequest) Check() error {
	if err := checkQueue(r.Tenant, r.Queue, r.SubQueue, r.Weight); err != nil {
		return err
	}
	if err := checkLimits(r.Limits); err != nil {
		return err
	}
	if len(r.Closable) > MaxQueueName {
		return invalid("closable", "must have at most %d bytes", MaxQueueName)
	}
	if r.ReservationMS < 0 || r.ReservationMS > MaxReservationMS {
		return invalid("reservation_ms", "must be between 0 and %d", MaxReservationMS)
	}
	if len(r.Behind) > MaxBehind {
		return invalid("behind", "must hold at most %d asks", MaxBehind)
	}
	if err := r.First().check(""); err != nil {
		return err
	}
	for i, w := range r.Behind {
		if err := w.check(fmt.Sprintf("behind[%d].", i)); err != nil {
			return err
		}
	}
	return nil
}

// First is the ask at the head of the request.
func (r AcquireRequest) First() Want {
	return Want{Messages: r.Messages, Requests: r.Requests, Tokens: r.Tokens, Reservation: r.Reservation}
}

func (w Want) check(path string) error {
	switch {
	case w.Messages < 0 || w.Messages > MaxRate:
		return invalid(path+"messages", "must be between 0 and %d", MaxRate)
	case w.Requests < 0 || w.Requests > MaxRate:
		return invalid(path+"requests", "must be between 0 and %d", MaxRate)
	case w.Tokens < 0 || w.Tokens > MaxTokenRate:
		return invalid(path+"tokens", "must be between 0 and %d", MaxTokenRate)
	case len(w.Reservation) > MaxReservation:
		return invalid(path+"reservation", "must have at most %d bytes", MaxReservation)
	}
	return nil
}

// Check tells what of the request cannot be, naming the field.
func (r SettleRequest) Check() error {
	if err := checkQueue(r.Tenant, r.Queue, r.SubQueue, r.Weight); err != nil {
		return err
	}
	switch {
	case r.Reservation == "" || len(r.Reservation) > MaxReservation:
		return invalid("reservation", "must have 1 to %d bytes", MaxReservation)
	case r.Used < 0 || r.Used > MaxTokenRate:
		return invalid("used", "must be between 0 and %d", MaxTokenRate)
	}
	return checkLimits(r.Limits)
}

// Check tells what of the request cannot be, naming the field.
func (r UsageRequest) Check() error { return checkQueue(r.Tenant, r.Queue, r.SubQueue, 1) }

// Check tells what of the request cannot be, naming the field.
func (r CloseRequest) Check() error {
	if r.ForMS < 1 || r.ForMS > MaxCloseMS {
		return invalid("for_ms", "must be between 1 and %d", MaxCloseMS)
	}
	return checkQueue(r.Tenant, r.Queue, "", 0)
}

// Check tells what of the request cannot be, naming the field.
func (r ResetRequest) Check() error { return checkQueue(r.Tenant, r.Queue, "", 0) }

func checkQueue(t TenantID, queue, share string, weight float64) error {
	if err := t.Check(); err != nil {
		return err
	}
	switch {
	case queue == "" || len(queue) > MaxQueueName:
		return invalid("queue", "must have 1 to %d bytes", MaxQueueName)
	case len(share) > MaxQueueName:
		return invalid("sub_queue", "must have at most %d bytes", MaxQueueName)
	case share != "" && !(weight > 0 && weight <= 1): // so that NaN is refused too
		return invalid("weight", "must be above 0 and at most 1 when sub_queue is given")
	}
	return nil
}

func checkLimits(l workflow.Bandwidth) error {
	for _, f := range []struct {
		name  string
		value int
	}{
		{"max_messages_per_second", l.MaxMessagesPerSecond},
		{"max_requests_per_minute", l.MaxRequestsPerMinute},
		{"max_tokens_per_minute", l.MaxTokensPerMinute},
		{"burst_size", l.BurstSize},
	} {
		if f.value < 0 {
			return invalid("limits."+f.name, "must not be negative")
		}
	}
	return nil
}

func invalid(field, format string, args ...any) error {
	return &Error{Code: CodeInvalid, Field: field, Message: field + " " + fmt.Sprintf(format, args...)}
}
