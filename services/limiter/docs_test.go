package limiter_test

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/daemon"
	"github.com/agentflow/agentflow/pkg/local/localtest"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
	"github.com/agentflow/agentflow/services/limiter"
)

// docs/limits.md speaks of variables and metrics that exist, with the defaults that they have.
func TestDocs(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../docs/limits.md")
	require.NoError(t, err)
	docs := string(raw)

	var usage bytes.Buffer
	require.NoError(t, daemon.Usage[limiter.Config](&usage, "limiter"))
	require.NoError(t, daemon.Usage[clientConfig](&usage, "client"))
	for _, name := range regexp.MustCompile("`((?:REDIS|RATE_LIMIT)_[A-Z_]+)`").FindAllStringSubmatch(docs, -1) {
		require.Contains(t, usage.String(), name[1])
	}
	cfg, err := daemon.Load[limiter.Config](nil)
	require.NoError(t, err)
	own, err := daemon.Load[clientConfig](nil)
	require.NoError(t, err)
	for _, stated := range []string{
		fmt.Sprintf("`REDIS_TIMEOUT_MS` (%d)", cfg.RedisTimeoutMS), fmt.Sprintf("`RATE_LIMIT_TIMEOUT_MS` (%d)", own.TimeoutMS),
		fmt.Sprintf("`RATE_LIMIT_WARN_INTERVAL_SECONDS` (%d)", int(cfg.WarnInterval.Seconds())), "`" + cfg.Fail + "` (the default)",
		"10,000,000", "1,000,000,000", fmt.Sprintf("up to %d at a time", protocol.MaxBehind+1),
		fmt.Sprintf("the longest is %d h", protocol.MaxCloseMS/3_600_000),
	} {
		require.Contains(t, docs, stated)
	}
	require.Equal(t, []int{10_000_000, 1_000_000_000}, []int{protocol.MaxRate, protocol.MaxTokenRate})

	// Every call of the limiter's own and of its client's moves a metric; the docs name them all.
	p := start(t, "REDIS_URL="+localtest.Redis(t))
	r := ask(workflow.Bandwidth{MaxTokensPerMinute: 10})
	r.Tokens, r.Reservation = 10, "r"
	for range 2 {
		_, err := p.acquire(t, r)
		require.NoError(t, err)
		r.Reservation = "s"
	}
	_, err = bus.Request(t.Context(), p.bus, protocol.SettleLimit, protocol.SettleRequest{Tenant: "acme", Queue: "orders", Limits: r.Limits, Reservation: "r"})
	require.NoError(t, err)
	families, err := p.metrics.Gather()
	require.NoError(t, err)
	require.NotEmpty(t, families)
	for _, f := range families {
		if regexp.MustCompile("^agentflow_lim").MatchString(f.GetName()) {
			require.Contains(t, docs, "`"+f.GetName())
		}
	}
	require.Contains(t, docs, "`agentflow_limiter_redis_failures_total{reason}`")
}
