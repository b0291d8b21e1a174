package fleet

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/agentflow/agentflow/pkg/bus/access"
	"github.com/agentflow/agentflow/pkg/local"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/test/platform"
)

// Options say how large a fleet is and how it is set. The zero value is two of each service and one NATS server.
type Options struct {
	Gateways, Catalogs, Executors, Limiters int                      // 0: two
	NATS                                    int                      // servers, 1 or 3; 0: one
	Env                                     []string                 // NAME=value for all services
	Tenants                                 []protocol.TenantID      // that have an integration user
	EnvOf                                   map[access.Role][]string // and for those of one service

	// Stores is called when the stores run and no service does; what it returns is added to Env.
	Stores func(*Fleet) ([]string, error)
}

// Fleet is a platform of many processes.
type Fleet struct {
	NATS      *Cluster
	Postgres  *local.Postgres
	Redis     *local.Redis
	Limiters  []*Process
	Catalogs  []*Process
	Executors []*Process
	Gateways  []*Process
	AdminKey  string

	dir string
}

// Start runs a fleet that ends with the test. A test that fails prints the end of every log.
func Start(tb testing.TB, o Options) *Fleet {
	tb.Helper()
	f, err := Launch(tb.Context(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Log(f.Log())
		}
		if err := f.Close(); err != nil {
			tb.Errorf("stop the fleet: %v", err)
		}
	})
	return f
}

// Launch runs a fleet, for those who end it by themselves.
func Launch(ctx context.Context, o Options) (_ *Fleet, err error) {
	bin, err := Binaries()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "agentflow-fleet-")
	if err != nil {
		return nil, err
	}
	f := &Fleet{dir: dir, AdminKey: "admin-key-of-the-fleet-3141592653"}
	defer func() { //nolint:contextcheck // what was started is ended, also when ctx has
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	servers := max(o.NATS, 1)
	if f.NATS, err = StartNATS(ctx, filepath.Join(dir, "nats"), servers, o.Tenants...); err != nil {
		return nil, err
	}
	// A folder of its own: the template of a new cluster is shared with other tests.
	template := filepath.Join(os.TempDir(), "agentflow-test-"+strconv.Itoa(os.Geteuid()), "template")
	if f.Postgres, err = local.StartPostgres(ctx, local.PostgresOptions{Dir: filepath.Join(dir, "postgres"), Fast: true, Template: template}); err != nil {
		return nil, err
	}
	if f.Redis, err = local.StartRedis(ctx, local.RedisOptions{Dir: filepath.Join(dir, "redis")}); err != nil {
		return nil, err
	}
	common := append([]string{"LOG_LEVEL=warn", "NATS_CREATE_STREAMS=false"}, o.Env...)
	if o.Stores != nil {
		more, err := o.Stores(f)
		if err != nil {
			return nil, err
		}
		common = append(common, more...)
	}
	if servers > 1 {
		common = append(common, "NATS_REPLICAS="+strconv.Itoa(servers))
	}
	for _, group := range []struct {
		role  access.Role
		count int
		into  *[]*Process
		env   []string
	}{
		{access.Limiter, o.Limiters, &f.Limiters, []string{"REDIS_URL=" + f.Redis.URL()}},
		{access.Catalog, o.Catalogs, &f.Catalogs, []string{"DATABASE_URL=" + f.Postgres.URL(), "NATS_CREATE_STREAMS=true", "DB_POOL_SIZE=10"}},
		{access.Executor, o.Executors, &f.Executors, []string{"EGRESS_ALLOW=127.0.0.0/8,::1,localhost"}},
		{access.Gateway, o.Gateways, &f.Gateways, []string{"AGENTFLOW_ADMIN_KEY=" + f.AdminKey, "AUTH_REQUIRED=false", "DEV_TENANT=dev"}},
	} {
		count := group.count
		if count == 0 {
			count = 2
		}
		for i := range count {
			env := slices.Concat(group.env, f.NATS.Env(group.role), common, o.EnvOf[group.role])
			if group.role == access.Catalog {
				env = append(env, "NATS_CREATE_STREAMS=true")
			}
			p, err := f.service(ctx, bin, group.role, i, env)
			if err != nil {
				return nil, err
			}
			*group.into = append(*group.into, p)
		}
		// Those of a kind start at the same time, as they do in a roll-out.
		for _, p := range *group.into {
			if err := p.Begin(); err != nil {
				return nil, err
			}
		}
		if group.role == access.Limiter || group.role == access.Executor {
			continue // nobody waits for them to start
		}
		for _, p := range *group.into {
			if err := p.AwaitReady(ctx); err != nil {
				return nil, err
			}
		}
	}
	for _, p := range f.Services() {
		if err := p.AwaitReady(ctx); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// service describes a process of a service. It keeps its ports when it is started again.
func (f *Fleet) service(ctx context.Context, bin string, role access.Role, i int, env []string) (*Process, error) {
	ports, err := freePorts(ctx, 2)
	if err != nil {
		return nil, err
	}
	p := &Process{
		Name: fmt.Sprintf("%s-%d", role, i), Admin: fmt.Sprintf("http://127.0.0.1:%d", ports[0]), health: "/health/ready",
		dir: f.dir, args: []string{filepath.Join(bin, string(role))},
		env: append(env, fmt.Sprintf("ADMIN_ADDR=127.0.0.1:%d", ports[0])),
	}
	if role == access.Gateway {
		p.URL = fmt.Sprintf("http://127.0.0.1:%d", ports[1])
		p.env = append(p.env, fmt.Sprintf("HTTP_ADDR=127.0.0.1:%d", ports[1]))
	}
	return p, nil
}

// Services are the processes of all services.
func (f *Fleet) Services() []*Process {
	return slices.Concat(f.Limiters, f.Catalogs, f.Executors, f.Gateways)
}

// Together does the same to several processes at once.
func Together(group []*Process, do func(*Process) error) error {
	errs := make([]error, len(group))
	var wg sync.WaitGroup
	for i, p := range group {
		wg.Go(func() { errs[i] = do(p) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Gateway is the platform as it looks from one of the gateways.
func (f *Fleet) Gateway(i int) *platform.Platform {
	return platform.Attach(platform.Ready{
		URL: f.Gateways[i].URL, Tenant: "dev", AdminKey: f.AdminKey, NATSURL: f.NATS.URL(), DatabaseURL: f.Postgres.URL(), RedisURL: f.Redis.URL(),
	})
}

// Log is the end of the log of every process.
func (f *Fleet) Log() string {
	var out strings.Builder
	processes := f.Services()
	if f.NATS != nil {
		processes = append(processes, f.NATS.Servers...)
	}
	for _, p := range processes {
		if log := p.Log(); log != "" {
			out.WriteString("── " + p.Name + "\n" + log + "\n")
		}
	}
	return out.String()
}

// Close ends every process, clients first, and removes the data.
func (f *Fleet) Close() error {
	var errs []error
	for _, group := range [][]*Process{f.Gateways, f.Executors, f.Limiters, f.Catalogs} {
		errs = append(errs, Together(group, (*Process).Stop))
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if f.Redis != nil {
		errs = append(errs, f.Redis.Stop(ctx))
	}
	if f.Postgres != nil {
		errs = append(errs, f.Postgres.Stop(ctx))
	}
	if f.NATS != nil {
		for _, p := range f.NATS.Servers {
			errs = append(errs, p.Kill()) // its lame duck mode waits for clients that have gone
		}
	}
	return errors.Join(append(errs, os.RemoveAll(f.dir))...)
}

// Settle makes the tenant that requests without a key act for.
func (f *Fleet) Settle(tb testing.TB) {
	tb.Helper()
	a := f.Gateway(0).As(f.AdminKey).Call(tb, http.MethodPost, "/tenants", map[string]any{"id": "dev", "name": "dev"})
	if a.Status != http.StatusCreated {
		tb.Fatalf("make tenant dev: %d %s", a.Status, a.Body)
	}
}

// RequireNoViolations holds that no service has tried what its NATS user may not do.
func (f *Fleet) RequireNoViolations(tb testing.TB) {
	tb.Helper()
	for _, server := range f.NATS.Servers {
		for line := range strings.Lines(server.Log()) {
			if strings.Contains(line, "Violation") {
				tb.Errorf("%s: %s", server.Name, line)
			}
		}
	}
}
