// Package gateway is the service that clients talk to: REST and server-sent events on one side,
// the bus on the other. It keeps nothing: what it accepts is in the log before it says so.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/daemon"
	"github.com/agentflow/agentflow/pkg/limits"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
	"github.com/agentflow/agentflow/services/gateway/internal/api"
	"github.com/agentflow/agentflow/services/gateway/internal/catalogcache"
	"github.com/agentflow/agentflow/services/gateway/internal/history"
	"github.com/agentflow/agentflow/services/gateway/internal/keys"
	"github.com/agentflow/agentflow/services/gateway/internal/start"
)

// Config is what the gateway reads from the environment.
type Config struct {
	daemon.Common
	Bus bus.Config

	HTTPAddr     string        `env:"HTTP_ADDR" envDefault:":8000" check:"hostport" help:"address that clients talk to"`
	AuthRequired bool          `env:"AUTH_REQUIRED" envDefault:"true" help:"whether requests need an API key; without it they act for DEV_TENANT"`
	DevTenant    string        `env:"DEV_TENANT" envDefault:"dev" help:"tenant of requests without a key, when none is required"`
	AdminKey     string        `env:"AGENTFLOW_ADMIN_KEY" secret:"true" help:"the platform's own key, for tenants and keys; empty: there is none"`
	CORSOrigins  []string      `env:"CORS_ORIGINS" help:"origins whose pages may call the API, separated by commas, or *; empty: none"`
	BodyLimit    int           `env:"BODY_LIMIT_BYTES" envDefault:"1048576" check:"min=1024,max=3145728" help:"largest body of a request"`
	HeaderLimit  int           `env:"HEADER_LIMIT_BYTES" envDefault:"16384" check:"min=4096,max=1048576" help:"largest request line and headers together"`
	ReadTimeout  time.Duration `env:"HTTP_READ_TIMEOUT_SECONDS" envDefault:"30" check:"min=1s,max=10m" help:"time in which a request must have arrived"`
	WriteTimeout time.Duration `env:"HTTP_WRITE_TIMEOUT_SECONDS" envDefault:"60" check:"min=1s,max=10m" help:"time in which a client must have taken an answer"`
	IdleTimeout  time.Duration `env:"HTTP_IDLE_TIMEOUT_SECONDS" envDefault:"120" check:"min=1s,max=1h" help:"time that a connection may be idle"`

	ExecutionTimeout time.Duration `env:"EXECUTION_TIMEOUT_SECONDS" envDefault:"300" check:"min=1s,max=168h" help:"time that an execution gets when neither the request nor the workflow says"`
	MaxIterations    int           `env:"MAX_ITERATIONS" envDefault:"25" check:"min=1,max=10000" help:"how often the body of a loop may run again when neither the request nor the workflow says"`

	Limits            limits.Config
	MessagesPerSecond int `env:"RATE_LIMIT_MESSAGES_PER_SECOND" envDefault:"0" check:"min=0,max=10000000" help:"requests a second of a tenant whose record says nothing; 0: unlimited"`
	RequestsPerMinute int `env:"RATE_LIMIT_REQUESTS_PER_MINUTE" envDefault:"0" check:"min=0,max=10000000" help:"requests a minute of a tenant whose record says nothing; 0: unlimited"`

	// Listener is used instead of HTTPAddr when the caller has opened one.
	Listener net.Listener `env:"-"`
}

// Validate checks what tags cannot.
func (c Config) Validate() []error {
	var errs []error
	if err := protocol.TenantID(c.DevTenant).Check(); err != nil {
		errs = append(errs, &daemon.Problem{Variable: "DEV_TENANT", Value: c.DevTenant, Rule: err.Error()})
	}
	const shortest = 16
	if c.AdminKey != "" && len(c.AdminKey) < shortest {
		errs = append(errs, &daemon.Problem{
			Variable: "AGENTFLOW_ADMIN_KEY", Rule: fmt.Sprintf("must have at least %d characters", shortest),
			Fix: "make one with: openssl rand -hex 32",
		})
	}
	for _, origin := range c.CORSOrigins {
		if origin != "*" && !strings.HasPrefix(origin, "http://") && !strings.HasPrefix(origin, "https://") {
			errs = append(errs, &daemon.Problem{Variable: "CORS_ORIGINS", Value: origin, Rule: "must be * or origins such as https://app.example.com"})
		}
	}
	return errs
}

// Main is the gateway as a process of its own: it connects to NATS and runs.
func Main(ctx context.Context, rt *daemon.Runtime, cfg Config) error {
	cfg.Bus.Name, cfg.Bus.Log, cfg.Bus.Tracer = rt.Name, rt.Log, rt.Tracer
	b, err := bus.Connect(ctx, cfg.Bus)
	if err != nil {
		return err
	}
	defer b.Close()
	rt.Health.Register("nats", true, b.Ping)
	return Run(ctx, rt, b, cfg)
}

// Run serves until ctx ends, and then until the requests in hand are answered.
func Run(ctx context.Context, rt *daemon.Runtime, b *bus.Bus, cfg Config) error {
	book := keys.NewBook(cfg.AdminKey, rt.Log)
	cache, err := catalogcache.New(b, rt.Log)
	if err != nil {
		return err
	}
	past := history.New(b)
	starter, err := start.New(b, cache, past, start.Defaults{Timeout: cfg.ExecutionTimeout, MaxIterations: cfg.MaxIterations})
	if err != nil {
		return err
	}
	limiter := limits.NewClient(b, cfg.Limits, rt.Log, rt.Metrics)
	g := rt.Group()
	defer g.Close(ctx)
	g.Door("limiter", limiter.Close)
	//nolint:contextcheck // handlers have the contexts of their requests
	server, err := api.New(rt, api.Parts{Bus: b, Keys: book, Cache: cache, Start: starter, History: past, Gate: limits.NewGate(limiter)}, api.Options{
		AuthRequired: cfg.AuthRequired, DevTenant: protocol.TenantID(cfg.DevTenant), CORSOrigins: cfg.CORSOrigins,
		BodyLimit: cfg.BodyLimit, HeaderLimit: cfg.HeaderLimit,
		ReadTimeout: cfg.ReadTimeout, WriteTimeout: cfg.WriteTimeout, IdleTimeout: cfg.IdleTimeout,
		Limits: workflow.Bandwidth{MaxMessagesPerSecond: cfg.MessagesPerSecond, MaxRequestsPerMinute: cfg.RequestsPerMinute},
	})
	if err != nil {
		return err
	}
	rt.Health.Register("keys", true, book.Ready)
	rt.Health.Register("limiter", false, limiter.Check)
	listener, err := listen(ctx, cfg)
	if err != nil {
		return err
	}
	rt.Log.Info("gateway open: " + listener.Addr().String())

	g.Add(daemon.Part{Name: "keys", Run: again(rt, func(ctx context.Context) error { return book.Follow(ctx, b) })})
	g.Add(daemon.Part{Name: "catalog cache", Run: again(rt, func(ctx context.Context) error { return cache.Follow(ctx, b) })})
	g.Add(daemon.Part{
		Name: "http",
		Run:  func(context.Context) error { return server.Serve(listener) },
		Stop: func(ctx context.Context) error {
			// A listener that Serve had not come to yet is closed here.
			err := server.Shutdown(ctx)
			if cerr := listener.Close(); cerr != nil && !errors.Is(cerr, net.ErrClosed) {
				err = errors.Join(err, cerr)
			}
			return err
		},
	})
	return g.Run(ctx)
}

// followAgain is the pause before a lost view of the catalog is opened again.
const followAgain = time.Second

// again keeps following until ctx ends: a NATS server that is away for a moment must not end the
// gateway, which can say 503 by itself.
func again(rt *daemon.Runtime, follow func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		for {
			err := follow(ctx)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			rt.Log.Warn("catalog not followed, opening it again", zap.Error(err))
			select {
			case <-time.After(followAgain):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

func listen(ctx context.Context, cfg Config) (net.Listener, error) {
	if cfg.Listener != nil {
		return cfg.Listener, nil
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", cfg.HTTPAddr)
	if err != nil {
		return nil, fmt.Errorf("open HTTP port: %w", err)
	}
	return l, nil
}
