package limits

import (
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// Policy says what to do while nobody counts.
type Policy struct {
	Fail         string        `env:"RATE_LIMIT_FAIL" envDefault:"open" check:"oneof=open closed" help:"while Redis or the limiter is away: open lets everything pass, closed nothing"`
	WarnInterval time.Duration `env:"RATE_LIMIT_WARN_INTERVAL_SECONDS" envDefault:"60" check:"min=1s,max=1h" help:"while Redis or the limiter is away, time between two warnings in the log"`
}

// awayRetry is when those who are refused by policy may ask again.
const awayRetry = time.Second

// Grant is the answer by policy: everything, or an UNAVAILABLE that says when to ask again.
func (p Policy) Grant(r protocol.AcquireRequest) (protocol.Grant, error) {
	if p.Fail == "closed" {
		return protocol.Grant{}, &protocol.Error{
			Code: protocol.CodeUnavailable, Message: "limits cannot be checked right now; try again", RetryAfterMS: awayRetry.Milliseconds(),
		}
	}
	return protocol.Grant{Granted: true, Behind: len(r.Behind), Degraded: true}, nil
}

// Notice puts a lasting trouble into the log once per interval instead of once per call.
type Notice struct {
	log   *zap.Logger
	every time.Duration

	mu     sync.Mutex
	said   time.Time // when the last warning was written; zero: all is well
	unsaid int       // since then
}

// NewNotice warns through log, at most once per interval.
func NewNotice(log *zap.Logger, every time.Duration) *Notice { return &Notice{log: log, every: every} }

// Bad warns, unless it just has. The fields say on whose behalf it was.
func (n *Notice) Bad(message string, err error, about ...zap.Field) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.unsaid++
	now := time.Now()
	if !n.said.IsZero() && now.Sub(n.said) < n.every {
		return
	}
	// Whoever operates the platform is to know, whether or not anybody reads warnings.
	n.log.Warn(message, append(about, zap.Bool("reported", true), zap.Error(err), zap.Int("times", n.unsaid), zap.Duration("next_warning_after", n.every))...)
	n.said, n.unsaid = now, 0
}

// Good says that the trouble is over, if there was any.
func (n *Notice) Good(message string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.said.IsZero() {
		return
	}
	n.log.Info(message, zap.Int("times", n.unsaid))
	n.said, n.unsaid = time.Time{}, 0
}
