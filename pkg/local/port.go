package local

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
)

// Ports are taken from below the range that kernels give to outgoing connections, so that a server which is down for
// a moment finds its port free when it comes back.
const (
	lowestPort = 15000
	portCount  = 15000
)

const loopback = "127.0.0.1"

func address(port int) string { return net.JoinHostPort(loopback, strconv.Itoa(port)) }

// Each process goes through the ports in turn, from a place of its own: two servers of one process never get the same
// port, and those of two processes hardly ever.
var (
	firstPort  = rand.IntN(portCount) //nolint:gosec // not a secret
	portsTried atomic.Int64
)

// FreePort is a port of loopback that nobody listens on. Another process may take it before the caller's server does.
func FreePort(ctx context.Context) (int, error) {
	for range 100 {
		port := lowestPort + (firstPort+int(portsTried.Add(1)))%portCount
		if portFree(ctx, port) {
			return port, nil
		}
	}
	return 0, errors.New("found no free port on " + loopback)
}

func portFree(ctx context.Context, port int) bool {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address(port))
	if err != nil {
		return false
	}
	return listener.Close() == nil
}

// rememberedPort is the port of the last run on this folder, or 0.
func rememberedPort(dir string) int {
	text, err := os.ReadFile(filepath.Join(dir, "port"))
	if err != nil {
		return 0
	}
	port, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || port < 1 || port > 65535 {
		return 0
	}
	return port
}

func rememberPort(dir string, port int) error {
	if rememberedPort(dir) == port {
		return nil
	}
	if err := replaceFile(filepath.Join(dir, "port"), strconv.Itoa(port)+"\n"); err != nil {
		return fmt.Errorf("remember the port: %w", err)
	}
	return nil
}
