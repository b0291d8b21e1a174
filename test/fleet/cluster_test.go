//go:build e2e

package fleet_test

import (
	"slices"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus/access"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/test/fleet"
	"github.com/agentflow/agentflow/test/platform"
)

// TestCluster kills, under load, the NATS server that leads a partition, one after another until each has been killed once:
// requests may be refused meanwhile, but nothing that was accepted is lost, and the platform goes on by itself.
func TestCluster(t *testing.T) {
	f := fleet.Start(t, fleet.Options{NATS: 3})
	f.Settle(t)
	load, err := f.StartLoad(t.Context(), fleet.Work{PerSecond: 50, Body: object{"workflow": pure, "initial_state": object{"user_input": "you"}}, Async: 5})
	require.NoError(t, err)
	answered := func() {
		before := load.Answered()
		platform.Await(t, "answers", func() bool { return load.Answered() > before+50 })
	}
	answered()
	nc := connect(t, f.NATS, access.Admin)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	leader := func(partition int) string {
		name := ""
		platform.Await(t, "a leader", func() bool {
			stream, err := js.Stream(t.Context(), protocol.PartitionStream(partition))
			if err != nil {
				return false
			}
			info := stream.CachedInfo()
			require.Equal(t, 3, info.Config.Replicas)
			name = info.Cluster.Leader
			return name != ""
		})
		return name
	}
	var killed []string
	for len(killed) < len(f.NATS.Servers) {
		var victim *fleet.Process
		for p := 0; p < 8 && victim == nil; p++ {
			name := leader(p)
			if !slices.Contains(killed, name) {
				victim = f.NATS.Servers[slices.IndexFunc(f.NATS.Servers, func(s *fleet.Process) bool { return s.Name == name })]
			}
		}
		if victim == nil { // it leads nothing, and dies all the same
			victim = f.NATS.Servers[slices.IndexFunc(f.NATS.Servers, func(s *fleet.Process) bool { return !slices.Contains(killed, s.Name) })]
		}
		require.NoError(t, victim.Kill())
		killed = append(killed, victim.Name)
		answered() // two of three are enough
		require.NoError(t, victim.Up(t.Context()))
		for _, s := range f.NATS.Servers {
			require.NoError(t, s.AwaitReady(t.Context()))
		}
		for p := range 8 {
			awaitCopies(t, js, p)
		}
		answered()
	}
	r := load.Stop()
	t.Logf("%d requests, %d refused while a leader was elected, the slowest took %v; killed %v", r.Sent, len(r.Failures), r.Slowest, killed)
	f.RequireKept(t, r)
}

// awaitCopies waits until the copies of a partition are what its leader has: only then another server may die.
func awaitCopies(t *testing.T, js jetstream.JetStream, partition int) {
	t.Helper()
	platform.Await(t, "the copies", func() bool {
		stream, err := js.Stream(t.Context(), protocol.PartitionStream(partition))
		if err != nil {
			return false
		}
		c := stream.CachedInfo().Cluster
		return c.Leader != "" && len(c.Replicas) == 2 && !slices.ContainsFunc(c.Replicas, func(p *jetstream.PeerInfo) bool { return !p.Current || p.Offline })
	})
}
