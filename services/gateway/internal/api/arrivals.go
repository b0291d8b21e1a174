package api

import (
	"net"
	"sync"
	"sync/atomic"
)

// arrivals are connections on which no request has begun. The HTTP server takes them for busy
// until their read timeout, so that a client which opens connections in advance, as many do, would
// hold up every drain; they are closed here instead.
type arrivals struct {
	mu        sync.Mutex
	waiting   map[*arrival]struct{}
	dismissed bool
}

func newArrivals() *arrivals { return &arrivals{waiting: map[*arrival]struct{}{}} }

// on watches the connections that a listener accepts.
func (a *arrivals) on(l net.Listener) net.Listener { return &watchedListener{l, a} }

// dismiss closes every connection on which no request has begun, now and from now on.
func (a *arrivals) dismiss() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dismissed = true
	for c := range a.waiting {
		_ = c.Conn.Close() // nothing was said on it
	}
	clear(a.waiting)
}

func (a *arrivals) add(c *arrival) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.dismissed {
		_ = c.Conn.Close() // nothing was said on it
		return
	}
	a.waiting[c] = struct{}{}
}

func (a *arrivals) remove(c *arrival) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.waiting, c)
}

type watchedListener struct {
	net.Listener
	arrivals *arrivals
}

func (l *watchedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	watched := &arrival{Conn: c, arrivals: l.arrivals}
	l.arrivals.add(watched)
	return watched, nil
}

// arrival is a connection until its first byte; after that it is only a connection.
type arrival struct {
	net.Conn
	arrivals *arrivals
	begun    atomic.Bool
}

func (c *arrival) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.begin()
	}
	return n, err
}

func (c *arrival) Close() error {
	c.begin()
	return c.Conn.Close()
}

func (c *arrival) begin() {
	if !c.begun.Load() && c.begun.CompareAndSwap(false, true) {
		c.arrivals.remove(c)
	}
}
