package platform

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"

	"github.com/agentflow/agentflow/pkg/daemon"
)

// address is checked like that of the gateway: one that cannot be is a wrong configuration, not a port that is busy.
type address struct {
	HTTP string `env:"HTTP_ADDR" check:"hostport" help:"address for clients"`
}

// listen opens the port for clients before anything else is started: a port that is taken must cost no time, and two
// platforms must not both believe that they have it.
func listen(ctx context.Context, addr string) (net.Listener, error) {
	if _, err := daemon.Load[address]([]string{"HTTP_ADDR=" + addr}); err != nil {
		return nil, err
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s is taken by another process: choose another address with --http, such as 127.0.0.1:0 for any free port", addr)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s for clients: %w", addr, err)
	}
	return l, nil
}

// onLoopback tells whether only this machine can reach the listener.
func onLoopback(l net.Listener) bool {
	tcp, ok := l.Addr().(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// clientURL is an address at which this machine reaches the listener.
func clientURL(l net.Listener) string {
	host, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return "http://" + l.Addr().String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// free tells whether nobody listens on a loopback port.
func free(ctx context.Context, port int) bool {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", net.JoinHostPort(loopback, strconv.Itoa(port)))
	return err == nil && l.Close() == nil
}

const loopback = "127.0.0.1"
