package bus

import (
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// Signals calls fn with each execution that somebody nudges, until stop is called. A nudge may be
// lost: it only saves waiting for the next commit.
func (b *Bus) Signals(fn func(protocol.ExecutionID)) (stop func(), err error) {
	prefix := protocol.SignalSubject("")
	sub, err := b.nc.Subscribe(prefix+"*", func(m *nats.Msg) {
		fn(protocol.ExecutionID(strings.TrimPrefix(m.Subject, prefix)))
	})
	if err != nil {
		return nil, fmt.Errorf("listen for signals: %w", err)
	}
	return func() { _ = sub.Unsubscribe() }, nil // a lost connection has dropped it already
}
