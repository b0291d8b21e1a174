// Package api is the HTTP of the gateway: its routes, what goes in and what comes out.
//
// It is the only package that knows fiber and huma. What an answer means is decided elsewhere:
// catalog and executor through the bus, package start for executions, package keys for who asks.
// Everything under /api/v1 keeps the shapes of Phase 1, byte for byte where it can; everything at
// the root speaks problem documents (RFC 9457).
package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gofiber/fiber/v2"
	"go.opentelemetry.io/otel/trace"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/daemon"
	"github.com/agentflow/agentflow/pkg/limits"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
	"github.com/agentflow/agentflow/services/gateway/internal/catalogcache"
	"github.com/agentflow/agentflow/services/gateway/internal/history"
	"github.com/agentflow/agentflow/services/gateway/internal/keys"
	"github.com/agentflow/agentflow/services/gateway/internal/start"
)

// Options of the HTTP side.
type Options struct {
	AuthRequired bool
	DevTenant    protocol.TenantID // for requests without a key, when none is required
	CORSOrigins  []string
	BodyLimit    int // bytes
	HeaderLimit  int // bytes of the request line and headers
	ReadTimeout  time.Duration
	WriteTimeout time.Duration
	IdleTimeout  time.Duration
	Limits       workflow.Bandwidth // of a tenant that has none of its own
}

// Parts are what the server works with.
type Parts struct {
	Bus     *bus.Bus
	Keys    *keys.Book
	Cache   *catalogcache.Cache
	Start   *start.Service
	History *history.Reader
	Gate    *limits.Gate // nil: no limits
}

// Server answers HTTP requests.
type Server struct {
	opts    Options
	rt      *daemon.Runtime
	bus     *bus.Bus
	keys    *keys.Book
	cache   *catalogcache.Cache
	start   *start.Service
	history *history.Reader

	app      *fiber.App
	api      huma.API
	metrics  *metrics
	tracer   trace.Tracer
	denied   *deniedAudit
	arrivals *arrivals
	gate     gate // nil: no limits
	loopback bool // nobody but this machine reaches the listener; set before the first request

	draining atomic.Bool
	// life ends streams when the server begins to stop, and hurry what still waits when the time to
	// stop is nearly over.
	life, hurry       context.Context //nolint:containedctx // of the server, not of a request
	endLife, endHurry context.CancelFunc
	background        sync.WaitGroup
}

// New makes a server; nothing is answered before Serve.
func New(rt *daemon.Runtime, p Parts, o Options) (*Server, error) {
	m, err := newMetrics(rt.Metrics)
	if err != nil {
		return nil, err
	}
	s := &Server{
		opts: o, rt: rt, bus: p.Bus, keys: p.Keys, cache: p.Cache, start: p.Start, history: p.History,
		metrics: m, tracer: rt.Tracer.Tracer("agentflow/gateway"), denied: newDeniedAudit(), arrivals: newArrivals(),
	}
	s.life, s.endLife = context.WithCancel(context.Background())
	s.hurry, s.endHurry = context.WithCancel(context.Background())
	s.app = fiber.New(fiber.Config{
		DisableStartupMessage: true,
		BodyLimit:             o.BodyLimit,
		ReadBufferSize:        o.HeaderLimit,
		ReadTimeout:           o.ReadTimeout,
		WriteTimeout:          o.WriteTimeout,
		IdleTimeout:           o.IdleTimeout,
		StrictRouting:         false, // /sources and /sources/ are the same to Phase 1's clients
		CaseSensitive:         true,
		ErrorHandler:          s.early,
		JSONEncoder:           encode,
		UnescapePath:          true, // ids of sources may hold more than letters
		// Bodies are JSON: nothing is to be unpacked before its size is known.
		DisablePreParseMultipartForm: true,
	})
	if p.Gate != nil {
		s.gate = p.Gate
	}
	s.routes()
	return s, nil
}

// Serve answers on a listener until Shutdown.
func (s *Server) Serve(l net.Listener) error {
	s.loopback = isLoopback(l.Addr())
	if err := s.app.Listener(s.arrivals.on(l)); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("serve HTTP: %w", err)
	}
	return nil
}

// hurryBefore is how long before the deadline of Shutdown those who still wait are told so.
const hurryBefore = 2 * time.Second

// Shutdown takes no new requests and waits for those in hand, within ctx. Streams, which would
// never end by themselves, are ended; who waits for a long execution is told to ask again shortly
// before the time is over.
func (s *Server) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	s.endLife()
	s.arrivals.dismiss()
	defer s.endHurry()
	if deadline, ok := ctx.Deadline(); ok {
		timer := time.AfterFunc(time.Until(deadline)-hurryBefore, s.endHurry)
		defer timer.Stop()
	}
	if err := s.app.ShutdownWithContext(ctx); err != nil {
		return fmt.Errorf("drain HTTP: %w", err)
	}
	s.background.Wait()
	return nil
}

// hurried tells whether requests are being cut short because the server must end.
func (s *Server) hurried() bool { return s.hurry.Err() != nil }
