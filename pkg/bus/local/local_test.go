package local_test

import (
	"io"
	"net"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/agentflow/agentflow/pkg/bus/local"
	"github.com/agentflow/agentflow/pkg/leaktest"
)

func TestMain(m *testing.M) {
	leaktest.VerifyTestMain(m)
}

func TestDataOutlivesTheServer(t *testing.T) {
	dir := t.TempDir()
	for run := range 3 {
		core, logs := observer.New(zap.DebugLevel)
		s, err := local.Start(local.Options{Dir: dir, SyncAlways: run == 1, Log: zap.New(core)})
		require.NoError(t, err)
		nc, err := nats.Connect("", nats.InProcessServer(s))
		require.NoError(t, err)
		js, err := jetstream.New(nc)
		require.NoError(t, err)
		stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
		require.NoError(t, err)
		require.Equal(t, uint64(run), stream.CachedInfo().State.Msgs)
		_, err = js.Publish(t.Context(), "s", []byte("x"))
		require.NoError(t, err)
		nc.Close()
		s.Stop()
		require.NotZero(t, logs.Len(), "it says what it does")
		require.Zero(t, logs.FilterLevelExact(zap.ErrorLevel).Len())
	}
}

func TestItListensOnlyWhenAsked(t *testing.T) {
	s, err := local.Start(local.Options{Dir: t.TempDir()})
	require.NoError(t, err)
	require.Nil(t, s.Addr())
	s.Stop()

	s, err = local.Start(local.Options{Dir: t.TempDir(), Addr: "127.0.0.1", Port: -1})
	require.NoError(t, err)
	defer s.Stop()
	require.True(t, strings.HasPrefix(s.ClientURL(), "nats://127.0.0.1:"))
	nc, err := nats.Connect(s.ClientURL())
	require.NoError(t, err)
	require.Equal(t, int64(local.MaxPayload), nc.MaxPayload())
	nc.Close()
}

// TestItTellsOfTrouble: what the server says about a client that speaks no NATS is in the log, as an error.
func TestItTellsOfTrouble(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	s, err := local.Start(local.Options{Dir: t.TempDir(), Addr: "127.0.0.1", Port: -1, Log: zap.New(core)})
	require.NoError(t, err)
	defer s.Stop()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.Addr().String())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	_, err = conn.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	require.NoError(t, err)
	_, _ = io.Copy(io.Discard, conn) // until the server hangs up, in whatever way
	require.NotZero(t, logs.FilterLevelExact(zap.ErrorLevel).Len())
}

func TestStartFails(t *testing.T) {
	_, err := local.Start(local.Options{})
	require.ErrorContains(t, err, "no data folder")
	_, err = local.Start(local.Options{Dir: "/dev/null/x"})
	require.ErrorContains(t, err, "start NATS")
}

// TestPortIsTaken: it says so, and does not wait for it.
func TestPortIsTaken(t *testing.T) {
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, taken.Close()) }()
	_, err = local.Start(local.Options{Dir: t.TempDir(), Addr: "127.0.0.1", Port: taken.Addr().(*net.TCPAddr).Port})
	require.ErrorContains(t, err, "address already in use")
}

// TestStartFullDisk: what streams may grow to does not have to be free now, else a disk that has become fuller keeps them shut.
func TestStartFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for range 2 {
		s, err := local.Start(local.Options{Dir: dir})
		require.NoError(t, err)
		nc, err := nats.Connect("", nats.InProcessServer(s))
		require.NoError(t, err)
		js, err := jetstream.New(nc)
		require.NoError(t, err)
		_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "LARGE", Storage: jetstream.FileStorage, MaxBytes: 1 << 60})
		require.NoError(t, err)
		nc.Close()
		s.Stop()
	}
}
