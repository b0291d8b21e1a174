package chaos

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/bus/local"

	processes "github.com/agentflow/agentflow/test/fleet"
	"github.com/agentflow/agentflow/test/platform"
	"github.com/agentflow/agentflow/test/process"
)

const (
	partitions = 4
	adminKey   = "admin-key-of-the-chaos-1618033988"
)

// natsVariable makes this very binary a NATS server: host:port and data folder.
const (
	natsAddress = "AGENTFLOW_CHAOS_NATS_ADDRESS"
	natsFolder  = "AGENTFLOW_CHAOS_NATS_FOLDER"
)

// serveNATS is the test binary as a NATS server; it ends when it is killed.
func serveNATS(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	n, err := net.LookupPort("tcp", port)
	if err != nil {
		return err
	}
	server, err := local.Start(local.Options{Dir: os.Getenv(natsFolder), Addr: host, Port: n})
	if err == nil {
		server.WaitForShutdown()
	}
	return err
}

// startNATS runs a NATS server that may be killed, and returns its URL.
func startNATS(tb testing.TB) (*program, string) {
	tb.Helper()
	self, err := os.Executable()
	require.NoError(tb, err)
	address, dir := freeAddress(tb), tb.TempDir()
	p := start(tb, processes.Command{Name: "nats", Args: []string{self}, Env: []string{natsAddress + "=" + address, natsFolder + "=" + dir}})
	platform.Await(tb, "NATS", func() bool {
		conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(tb.Context(), "tcp", address)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	})
	return p, "nats://" + address
}

// service runs one of the services.
func service(tb testing.TB, name, number string, env ...string) *program {
	tb.Helper()
	bin, err := binaries()
	require.NoError(tb, err)
	admin := freeAddress(tb)
	return start(tb, processes.Command{
		Name: name + number, Args: []string{filepath.Join(bin, name)}, Admin: "http://" + admin, Health: "/health/ready",
		Env: append([]string{"ADMIN_ADDR=" + admin, "LOG_LEVEL=warn", fmt.Sprintf("EXECUTION_PARTITIONS=%d", partitions)}, env...),
	})
}

// executor runs an executor that takes over after ackWait.
func executor(tb testing.TB, number, nats string, ackWait time.Duration, env ...string) *program {
	tb.Helper()
	return service(tb, "executor", number, append([]string{
		"NATS_URL=" + nats, "EGRESS_ALLOW=127.0.0.0/8", fmt.Sprintf("EXECUTOR_ACK_WAIT_SECONDS=%v", ackWait),
		"EXECUTOR_CONCURRENCY=64",
	}, env...)...)
}

// connect opens a connection of the test itself, once NATS answers.
func connect(tb testing.TB, nats string) *bus.Bus {
	tb.Helper()
	var b *bus.Bus
	platform.Await(tb, "the streams", func() bool {
		ctx, cancel := context.WithTimeout(tb.Context(), 10*time.Second)
		defer cancel()
		var err error
		b, err = bus.Connect(ctx, bus.Config{URL: nats, Partitions: partitions, Replicas: 1, MaxBytes: 2 << 30, CreateLayout: true, Name: "chaos"})
		return err == nil
	})
	tb.Cleanup(b.Close)
	return b
}

// runMain runs the tests, or the NATS server of the tests.
func runMain(m *testing.M) int {
	if address := os.Getenv(natsAddress); address != "" {
		if err := serveNATS(address); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		return 1
	}
	return m.Run()
}

// binaries is the folder of the services' binaries and the agentflow command, built when it is first asked for.
var binaries = sync.OnceValues(func() (string, error) {
	return process.Build(
		"./cmd/agentflow", "./services/gateway/cmd/gateway", "./services/catalog/cmd/catalog", "./services/executor/cmd/executor",
		"./services/limiter/cmd/limiter",
	)
})
