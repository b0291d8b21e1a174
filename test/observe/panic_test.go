package observe_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/bus/local"
	"github.com/agentflow/agentflow/pkg/daemon"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/sentrytest"
)

// A panic in the handler of a call: the caller hears INTERNAL and nothing more, Sentry hears of it once, with the tenant and
// the execution that the call names, and the service answers the next one.
func TestPanicInACall(t *testing.T) {
	t.Parallel()
	inbox := sentrytest.New(t)
	rt, err := daemon.NewRuntime("catalog", daemon.Common{LogLevel: "fatal", LogFormat: "json", SentryDSN: inbox.DSN(), SentryEnvironment: "production"})
	require.NoError(t, err)
	ns, err := local.Start(local.Options{Dir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(ns.Stop)
	b, err := bus.Connect(t.Context(), bus.Config{InProcess: ns, CallsOnly: true, Name: "test", Log: rt.Log})
	require.NoError(t, err)
	t.Cleanup(b.Close)
	service, err := b.Serve("catalog", "1.0.0", 2)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, service.Stop()) })
	require.NoError(t, bus.Handle(service, protocol.GetExecution, func(_ context.Context, r protocol.GetExecutionRequest) (protocol.Execution, error) {
		if r.ID == "exec_bad" {
			panic("the secret of the house")
		}
		return protocol.Execution{ID: r.ID}, nil
	}))

	err = asked(t, b, protocol.GetExecution, protocol.GetExecutionRequest{Tenant: "acme", ID: "exec_bad"})
	require.ErrorIs(t, err, &protocol.Error{Code: protocol.CodeInternal})
	require.NotContains(t, err.Error(), "secret")
	require.NoError(t, asked(t, b, protocol.GetExecution, protocol.GetExecutionRequest{Tenant: "acme", ID: "exec_good"}))

	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, rt.Close(ctx)) // whatever waits to be sent is sent
	events := inbox.Events()
	require.Len(t, events, 1)
	require.Equal(t, "fatal", events[0]["level"])
	require.Equal(t, object{"service": "catalog", "tenant": "acme", "execution_id": "exec_bad"}, events[0]["tags"])
	require.Contains(t, inbox.Raw(), "panic_test.go", "the stack leads to the panic")
}
