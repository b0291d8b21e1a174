package service

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/daemon"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/sentrytest"
)

// TestPanicInACommand: a command whose handler panics is answered with INTERNAL and not tried again; Sentry hears of it
// once, on whose behalf it was; the next command is carried out.
func TestPanicInACommand(t *testing.T) {
	t.Parallel()
	inbox := sentrytest.New(t)
	rt, err := daemon.NewRuntime("catalog", daemon.Common{LogLevel: "fatal", LogFormat: "json", SentryDSN: inbox.DSN(), SentryEnvironment: "production"})
	require.NoError(t, err)
	w := newWorld(t, options{})
	w.tenant("acme")
	w.log = rt.Log
	w.step = func(context.Context, string) error {
		w.step = func(context.Context, string) error { return nil }
		panic("the secret of the house")
	}
	ctx, cancel := context.WithCancel(t.Context())
	handling := make(chan error, 1)
	go func() { handling <- w.Commands(ctx, 1) }()

	bad := command("acme", protocol.VerbSourceCreate, llm("bad"))
	_, err = bus.SendCommand[protocol.KeptSource](t.Context(), w.bus, bad)
	require.ErrorIs(t, err, &protocol.Error{Code: protocol.CodeInternal})
	require.NotContains(t, err.Error(), "secret")
	_, err = bus.SendCommand[protocol.KeptSource](t.Context(), w.bus, command("acme", protocol.VerbSourceCreate, llm("good")))
	require.NoError(t, err)
	cancel()
	require.NoError(t, <-handling)

	require.NoError(t, rt.Close(context.Background())) // whatever waits to be sent is sent
	reports := inbox.Events()
	require.Len(t, reports, 1)
	require.Equal(t, "fatal", reports[0]["level"])
	require.Equal(t, map[string]any{"service": "catalog", "tenant": "acme", "request_id": bad.RequestID}, reports[0]["tags"])
	require.Contains(t, inbox.Raw(), "panic_test.go", "the stack leads to the panic")
}
