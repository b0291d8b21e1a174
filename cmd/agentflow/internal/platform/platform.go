// Package platform is the single-process mode: the four services over one NATS server in this process, with a
// Postgres and a Redis that the environment names or that it runs itself, all data in one folder.
//
// It only assembles. What a service does is the service's business; how a private Postgres or Redis is run is that
// of pkg/local.
package platform

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/daemon"
	"github.com/agentflow/agentflow/pkg/local"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/services/catalog"
	"github.com/agentflow/agentflow/services/executor"
	"github.com/agentflow/agentflow/services/gateway"
	"github.com/agentflow/agentflow/services/limiter"
)

// readyPatience is how long the services get to answer once their stores stand.
const readyPatience = 30 * time.Second

// Options say where and how the platform runs.
type Options struct {
	Data string // the folder that everything is kept in; made if need be
	HTTP string // address for clients
	// SyncAlways has the log synced to disk before every acknowledgement, so that nothing accepted is lost even when
	// the machine dies. Without it the log is synced every 100 ms, and nothing is lost when processes die.
	SyncAlways bool
	// Private has it run a Postgres and a Redis of its own, whatever DATABASE_URL and REDIS_URL say.
	Private bool
	Environ []string // configuration of the services, as os.Environ gives it
}

// Info is how to reach a platform that is ready.
type Info struct {
	URL         string            `json:"url"`
	Tenant      protocol.TenantID `json:"tenant"`
	APIKey      string            `json:"api_key"`
	AdminKey    string            `json:"admin_key"`
	NATSURL     string            `json:"nats_url"`
	DatabaseURL string            `json:"database_url"` // with the login of the catalog service
	RedisURL    string            `json:"redis_url"`
	PID         int               `json:"pid"`

	StandIn      bool   `json:"-"` // Redis is the built-in stand-in
	AuthRequired bool   `json:"-"`
	AdminAddr    string `json:"admin_addr"` // health, metrics, profiles and the log level
}

// Run brings the platform up, calls use when it is ready, and brings it down when use returns or ctx ends, whichever
// is first: intake, executions, catalog, limiter, then the stores. The context of use ends when the platform begins
// to stop. When another process uses the folder the error is a *local.LockedError.
func Run(ctx context.Context, o Options, use func(ctx context.Context, info Info) error) error {
	lock, err := local.LockDir(o.Data)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Unlock() }() // freed by the kernel at the latest
	p := &platform{options: o}
	if p.listener, err = listen(ctx, o.HTTP); err != nil {
		return err
	}
	defer func() { _ = p.listener.Close() }() // the gateway closes it first, if it came so far
	if p.identity, err = loadIdentity(o.Data); err != nil {
		return err
	}
	p.config, err = load(o, p.listener, p.identity)
	if err != nil {
		return err
	}
	//nolint:contextcheck // the doors of the runtime outlive ctx: they close last
	if p.rt, err = daemon.NewRuntime("agentflow", p.config.common); err != nil {
		return err
	}
	defer p.close(ctx)
	return p.run(ctx, use)
}

type platform struct {
	options  Options
	config   config
	identity *identity
	listener net.Listener
	rt       *daemon.Runtime
	stores   stores
	admin    *daemon.Admin
}

// stopGrace is what the stores get to stop when the services have used up their time.
const stopGrace = 20 * time.Second

func (p *platform) run(ctx context.Context, use func(ctx context.Context, info Info) error) error {
	g := p.rt.Group()
	g.Timeout += stopGrace
	defer g.Close(ctx)

	err := p.stores.open(ctx, p)
	p.stores.doors(g)
	if err != nil {
		return err
	}
	if p.admin, err = p.rt.Admin(ctx, p.config.common.AdminAddr); err != nil {
		return err
	}
	g.Add(p.admin.Part())
	if err := p.services(ctx, g); err != nil {
		return err
	}

	ctx, end := context.WithCancel(ctx)
	defer end()
	var useErr error
	g.Add(daemon.Part{Name: "start", Run: func(using context.Context) error {
		info, err := p.ready(using)
		if err != nil {
			return unlessStopping(using, err)
		}
		if err := p.leaveNote(info); err != nil {
			return err
		}
		defer p.takeNote()
		useErr = use(using, info)
		end()
		<-using.Done() // a part that ends by itself is an error
		return nil
	}})
	err = g.Run(ctx)
	return errors.Join(useErr, err)
}

// services adds the four, each with a connection of its own; those that take work in come last, so that they stop first.
func (p *platform) services(ctx context.Context, g *daemon.Group) error {
	c, err := p.config.withStores(p.stores)
	if err != nil {
		return err
	}
	p.rt.Mask(c.secrets...)
	c.gateway.Listener = p.listener
	for _, s := range []struct {
		name string
		run  func(context.Context, *daemon.Runtime, *bus.Bus) error
	}{
		{"limiter", func(ctx context.Context, rt *daemon.Runtime, b *bus.Bus) error {
			return limiter.Run(ctx, rt, b, c.limiter)
		}},
		{"catalog", func(ctx context.Context, rt *daemon.Runtime, b *bus.Bus) error {
			return catalog.Run(ctx, rt, b, c.catalog)
		}},
		{"executor", func(ctx context.Context, rt *daemon.Runtime, b *bus.Bus) error {
			return executor.Run(ctx, rt, b, c.executor)
		}},
		{"gateway", func(ctx context.Context, rt *daemon.Runtime, b *bus.Bus) error {
			return gateway.Run(ctx, rt, b, c.gateway)
		}},
	} {
		rt := p.rt.Service(s.name) //nolint:contextcheck // a name is given to what logs, and no request is under way
		b, err := p.connect(ctx, rt, false)
		if err != nil {
			return err
		}
		g.Door(s.name+" connection", closing(b))
		g.Add(daemon.Part{Name: s.name, Run: func(ctx context.Context) error { return s.run(ctx, rt, b) }})
	}
	return nil
}

// connect opens a connection to the NATS server in this process.
func (p *platform) connect(ctx context.Context, rt *daemon.Runtime, create bool) (*bus.Bus, error) {
	c := p.config.bus
	c.Name, c.Log, c.Tracer, c.InProcess, c.CreateLayout = rt.Name, rt.Log, rt.Tracer, p.stores.nats, create
	b, err := bus.Connect(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", rt.Name, err)
	}
	return b, nil
}

func closing(b *bus.Bus) func(context.Context) error {
	return func(context.Context) error {
		b.Close()
		return nil
	}
}

func (p *platform) info() Info {
	return Info{
		URL: clientURL(p.listener), Tenant: p.identity.tenant, APIKey: p.identity.key.Key, AdminKey: p.config.gateway.AdminKey,
		NATSURL: p.stores.nats.ClientURL(), DatabaseURL: p.stores.serviceURL, RedisURL: p.stores.redisURL, PID: os.Getpid(),
		StandIn: p.stores.redis != nil && p.stores.redis.StandIn(), AuthRequired: p.config.gateway.AuthRequired,
		AdminAddr: p.admin.Addr(),
	}
}

// close sends what is left of traces and error reports.
func (p *platform) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := p.rt.Close(ctx); err != nil {
		p.rt.Log.Warn("not everything was sent", zap.Error(err))
	}
}

// unlessStopping is nil for an error that only says that ctx has ended.
func unlessStopping(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
