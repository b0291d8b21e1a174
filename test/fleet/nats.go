package fleet

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/agentflow/agentflow/pkg/bus/access"
	"github.com/agentflow/agentflow/pkg/local"
	"github.com/agentflow/agentflow/pkg/protocol"

	"github.com/agentflow/agentflow/test/process"
)

// Cluster is one NATS server, or three that keep copies of everything.
type Cluster struct {
	Servers []*Process
	Keys    string // folder of the users' keys, as access.Prepare writes it
}

// StartNATS starts servers with deploy/nats/nats.conf, on data under dir. With one server data is kept once; give the
// services NATS_REPLICAS=3 when there are three.
func StartNATS(ctx context.Context, dir string, servers int, tenants ...protocol.TenantID) (*Cluster, error) {
	bin, err := Binaries()
	if err != nil {
		return nil, err
	}
	root, err := process.Workspace()
	if err != nil {
		return nil, err
	}
	config, err := os.ReadFile(filepath.Join(root, "deploy", "nats", "nats.conf"))
	if err != nil {
		return nil, err
	}
	c := &Cluster{Keys: filepath.Join(dir, "keys")}
	if err := access.Prepare(c.Keys, access.Options{Tenants: tenants, Hosts: []string{"localhost", "127.0.0.1"}}); err != nil {
		return nil, err
	}
	ports, err := freePorts(ctx, 3*servers)
	if err != nil {
		return nil, err
	}
	var routes []string
	for i := range servers {
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", ports[3*i+2]))
	}
	for i := range servers {
		home := filepath.Join(dir, fmt.Sprintf("nats-%d", i))
		if err := os.MkdirAll(home, 0o700); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(home, "nats.conf"), config, 0o600); err != nil {
			return nil, err
		}
		if err := os.Symlink(filepath.Join(c.Keys, access.ServerFolder), filepath.Join(home, "auth")); err != nil {
			return nil, err
		}
		name := fmt.Sprintf("nats-%d", i)
		p := &Process{
			Name: name, URL: fmt.Sprintf("tls://127.0.0.1:%d", ports[3*i]), Admin: fmt.Sprintf("http://127.0.0.1:%d", ports[3*i+1]),
			dir: home, health: "/healthz", env: []string{"NATS_DATA=" + filepath.Join(home, "data")},
			args: []string{
				filepath.Join(bin, "nats-server"), "-c", "nats.conf", "-n", name, "-a", "127.0.0.1",
				"-p", strconv.Itoa(ports[3*i]), "-m", strconv.Itoa(ports[3*i+1]),
			},
		}
		if servers > 1 {
			p.args = append(p.args, "--cluster_name", "agentflow", "--cluster", routes[i], "--routes", strings.Join(routes, ","))
		}
		c.Servers = append(c.Servers, p)
	}
	for _, p := range c.Servers {
		if err := p.Begin(); err != nil {
			return c, err
		}
	}
	for _, p := range c.Servers {
		if err := p.AwaitReady(ctx); err != nil {
			return c, err
		}
	}
	return c, nil
}

// URL names all servers.
func (c *Cluster) URL() string {
	urls := make([]string, len(c.Servers))
	for i, s := range c.Servers {
		urls[i] = s.URL
	}
	return strings.Join(urls, ",")
}

// Env is what a process needs to log in with a role.
func (c *Cluster) Env(r access.Role) []string {
	return []string{
		"NATS_URL=" + c.URL(),
		"NATS_NKEY_FILE=" + filepath.Join(c.Keys, string(r), access.SeedFile),
		"NATS_CA_FILE=" + filepath.Join(c.Keys, string(r), access.CAFile),
	}
}

func freePorts(ctx context.Context, n int) ([]int, error) {
	ports := make([]int, n)
	for i := range ports {
		var err error
		if ports[i], err = local.FreePort(ctx); err != nil {
			return nil, err
		}
	}
	return ports, nil
}
