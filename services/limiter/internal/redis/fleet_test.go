package redis

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/local"
	"github.com/agentflow/agentflow/services/limiter/internal/bucket"
)

// node is a redis-server with settings that the shared one does not have.
type node struct {
	addr   string
	client *goredis.Client
	cmd    *exec.Cmd
}

func freePort(t *testing.T) int {
	t.Helper()
	port, err := local.FreePort(t.Context())
	require.NoError(t, err)
	return port
}

// startNode runs a redis-server with a configuration, until the test ends. A port that is taken
// between looking and starting is tried again with another.
func startNode(t *testing.T, mode string, config func(port int) string) *node {
	t.Helper()
	for range 5 {
		port := freePort(t)
		dir := t.TempDir()
		file := filepath.Join(dir, "node.conf")
		text := fmt.Sprintf("port %d\nbind 127.0.0.1\nprotected-mode no\ndir %s\n%s", port, dir, config(port))
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		args := []string{file}
		if mode != "" {
			args = append(args, mode)
		}
		cmd := exec.Command("redis-server", args...)
		require.NoError(t, cmd.Start())
		exited := make(chan struct{})
		go func() { _ = cmd.Wait(); close(exited) }()
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		n := &node{addr: addr, client: goredis.NewClient(&goredis.Options{Addr: addr}), cmd: cmd}
		t.Cleanup(func() {
			_ = n.client.Close()
			_ = cmd.Process.Kill()
			<-exited
		})
		deadline := time.After(patience)
		for {
			if n.client.Ping(t.Context()).Err() == nil {
				return n
			}
			select {
			case <-exited:
			case <-deadline:
				t.Fatal("redis-server does not answer")
			case <-time.After(5 * time.Millisecond):
				continue
			}
			break
		}
	}
	t.Fatal("redis-server does not start")
	return nil
}

// A cluster refuses a script whose keys lie on different slots; ours share a hash tag.
func TestCluster(t *testing.T) {
	t.Parallel()
	n := startNode(t, "", func(int) string {
		return fmt.Sprintf("cluster-enabled yes\ncluster-port %d\nsave \"\"\n", freePort(t))
	})
	require.NoError(t, n.client.Do(t.Context(), "CLUSTER", "ADDSLOTSRANGE", 0, 16383).Err())
	require.Eventually(t, func() bool {
		info, err := n.client.ClusterInfo(t.Context()).Result()
		return err == nil && strings.Contains(info, "cluster_state:ok")
	}, patience, 10*time.Millisecond)

	w := watch(t, "redis+cluster://"+n.addr, 2*time.Second)
	for i := range 20 {
		ask := tokens(10, "r", time.Minute)
		ask.Key.Queue = fmt.Sprintf("queue/%d {}", i)
		ask.Key.Share, ask.Share = "gold", bucket.Limits{Tokens: 500}
		a, err := w.Acquire(t.Context(), ask)
		require.NoError(t, err)
		require.Equal(t, 1, a.Granted)
		s, err := w.Settle(t.Context(), ask.Key, ask.Limits, ask.Share, "r", 4)
		require.NoError(t, err)
		require.True(t, s.Found)
		u, err := w.Usage(t.Context(), ask.Key)
		require.NoError(t, err)
		require.EqualValues(t, 4, u.Use[bucket.Tokens].Used)
		_, err = w.Shut(t.Context(), ask.Key, time.Minute, "")
		require.NoError(t, err)
		removed, err := w.Reset(t.Context(), ask.Key)
		require.NoError(t, err)
		require.Equal(t, 3, removed)
	}
	require.NoError(t, w.Check(t.Context()))
}

// Behind Sentinel the door follows the primary to where it goes.
func TestSentinel(t *testing.T) {
	t.Parallel()
	primary := startNode(t, "", func(int) string { return "save \"\"\n" })
	_, primaryPort, _ := net.SplitHostPort(primary.addr)
	replica := startNode(t, "", func(int) string {
		return fmt.Sprintf("save \"\"\nreplicaof 127.0.0.1 %s\nrepl-diskless-sync-delay 0\n", primaryPort)
	})
	sentinel := startNode(t, "--sentinel", func(int) string {
		return fmt.Sprintf("sentinel monitor orders 127.0.0.1 %s 1\nsentinel down-after-milliseconds orders 300\nsentinel failover-timeout orders 3000\n", primaryPort)
	})
	require.Eventually(t, func() bool {
		info, err := replica.client.Info(t.Context(), "replication").Result()
		return err == nil && strings.Contains(info, "master_link_status:up")
	}, patience, 10*time.Millisecond)
	observer := goredis.NewSentinelClient(sentinel.client.Options())
	defer func() { require.NoError(t, observer.Close()) }()
	require.Eventually(t, func() bool { // it has heard of the replica
		list, err := observer.Replicas(t.Context(), "orders").Result()
		return err == nil && len(list) == 1 && list[0]["flags"] == "slave"
	}, patience, 50*time.Millisecond)

	w := watch(t, "redis+sentinel://"+sentinel.addr+"/orders", time.Second)
	w.comesBack(t)
	require.NoError(t, primary.cmd.Process.Kill())
	w.givesUp(t)
	w.comesBack(t)
	n, err := replica.client.Exists(t.Context(), orders.state()).Result()
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
}
