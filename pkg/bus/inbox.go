package bus

import (
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
)

// inboxes routes replies that come to this process through one wildcard subscription, so that
// waiting for a reply costs a map entry rather than a subscription at the server.
type inboxes struct {
	prefix string // with the final dot
	mu     sync.Mutex
	next   uint64
	wait   map[string]chan []byte
}

// Expect returns a subject to be answered on and the channel on which the answer arrives.
// Release must be called, also when no answer came.
func (b *Bus) Expect() (subject string, reply <-chan []byte, release func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.inboxes == nil {
		in := &inboxes{prefix: b.nc.NewInbox() + ".", wait: map[string]chan []byte{}}
		if _, err := b.nc.Subscribe(in.prefix+"*", in.deliver); err != nil {
			return "", nil, nil, fmt.Errorf("open reply inbox: %w", err)
		}
		b.inboxes = in
	}
	subject, ch := b.inboxes.open()
	in := b.inboxes
	return subject, ch, func() { in.close(subject) }, nil
}

// Reply answers on a subject that came from Expect. A lost reply costs nothing: what it says
// stands in the log.
func (b *Bus) Reply(subject string, body []byte) error {
	if err := b.nc.Publish(subject, body); err != nil {
		return fmt.Errorf("reply: %w", err)
	}
	return nil
}

func (in *inboxes) open() (string, chan []byte) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.next++
	token := strconv.FormatUint(in.next, 16)
	ch := make(chan []byte, 1)
	in.wait[token] = ch
	return in.prefix + token, ch
}

func (in *inboxes) close(subject string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	delete(in.wait, strings.TrimPrefix(subject, in.prefix))
}

func (in *inboxes) deliver(m *nats.Msg) {
	in.mu.Lock()
	ch := in.wait[strings.TrimPrefix(m.Subject, in.prefix)]
	in.mu.Unlock()
	if ch == nil {
		return // nobody waits any more
	}
	select {
	case ch <- m.Data:
	default: // a second answer to the same question
	}
}
