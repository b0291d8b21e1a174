package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/valyala/fasthttp" //nolint:depguard // an outside API that costs little beside what is measured
)

// outsideTakes is how long the outside API takes for an answer.
const outsideTakes = 5 * time.Millisecond

// outside is the API that workflows call: on loopback, in this process.
type outside struct {
	url      string
	listener net.Listener
	server   *fasthttp.Server
	done     chan error
}

func startOutside(ctx context.Context) (*outside, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start the API that workflows call: %w", err)
	}
	o := &outside{url: "http://" + l.Addr().String(), listener: l, done: make(chan error, 1)}
	o.server = &fasthttp.Server{
		Handler: func(c *fasthttp.RequestCtx) {
			<-time.After(outsideTakes)
			c.SetContentType("application/json")
			c.SetBodyString(`{"status":"shipped","items":3}`)
		},
		NoDefaultServerHeader: true, ReadTimeout: time.Minute, WriteTimeout: time.Minute,
		Concurrency: 1 << 17, Logger: silent{},
	}
	go func() { o.done <- o.server.Serve(l) }()
	return o, nil
}

// close ends the API; connections that are idle are cut.
func (o *outside) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	err := o.server.ShutdownWithContext(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = nil // the platform keeps its connections open; it is gone, or has no more use for them
	}
	// Shutdown knows nothing of a Serve that has not begun.
	if closed := o.listener.Close(); !errors.Is(closed, net.ErrClosed) {
		err = errors.Join(err, closed)
	}
	return errors.Join(err, <-o.done)
}

// silent swallows what the server has to say about clients that hang up.
type silent struct{}

func (silent) Printf(string, ...any) {}
