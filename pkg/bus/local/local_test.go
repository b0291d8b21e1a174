package local_test

import (
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/agentflow/agentflow/pkg/bus/local"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
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

func TestStartFails(t *testing.T) {
	_, err := local.Start(local.Options{})
	require.ErrorContains(t, err, "no data folder")
	_, err = local.Start(local.Options{Dir: "/dev/null/x"})
	require.ErrorContains(t, err, "start NATS")
}
