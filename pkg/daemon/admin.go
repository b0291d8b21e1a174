package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

// Admin is the port for operators: health, metrics, profiles and the log level. It has no authentication and must
// not be reachable by clients.
type Admin struct {
	rt       *Runtime
	listener net.Listener
	server   *http.Server
}

// Admin opens the admin port. Nothing is answered before Serve.
func (rt *Runtime) Admin(ctx context.Context, addr string) (*Admin, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("open admin port: %w", err)
	}
	a := &Admin{rt: rt, listener: listener}
	a.server = &http.Server{
		Handler:           a.routes(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      2 * time.Minute, // a CPU profile takes 30 s by default, a trace as long as asked
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          zap.NewStdLog(rt.Log),
	}
	return a, nil
}

// Addr is the address the port is open on, with the real port when 0 was asked for.
func (a *Admin) Addr() string { return a.listener.Addr().String() }

func (a *Admin) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health/live", a.live)
	mux.HandleFunc("GET /health/ready", a.ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.rt.registry, promhttp.HandlerOpts{
		ErrorLog:            zap.NewStdLog(a.rt.Log),
		ErrorHandling:       promhttp.ContinueOnError,
		Registry:            a.rt.registry,
		MaxRequestsInFlight: 4,
		EnableOpenMetrics:   true,
	}))
	mux.HandleFunc("GET /log_level", a.level)
	mux.HandleFunc("PUT /log_level", a.level)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

// level reads or sets the log level, as {"level":"debug"}.
func (a *Admin) level(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 1<<10)
	before := a.rt.Level.Level()
	a.rt.Level.ServeHTTP(w, r)
	if after := a.rt.Level.Level(); after != before {
		a.rt.Log.Warn("log level changed", zap.Stringer("from", before), zap.Stringer("to", after))
	}
}

// live answers as long as the process can answer at all; it asks nobody else, lest a broken store make an
// orchestrator restart what is not broken.
func (a *Admin) live(w http.ResponseWriter, _ *http.Request) {
	a.write(w, http.StatusOK, map[string]string{"status": "alive"})
}

func (a *Admin) ready(w http.ResponseWriter, r *http.Request) {
	report := a.rt.Health.Ready(r.Context())
	a.write(w, report.Code(), report)
}

func (a *Admin) write(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		a.rt.Log.Debug("admin answer not sent", zap.Error(err))
	}
}

// Serve answers until Shutdown.
func (a *Admin) Serve(context.Context) error {
	a.rt.Log.Info("admin port open", zap.String("addr", a.Addr()))
	return a.server.Serve(a.listener)
}

// Shutdown finishes what is being answered and closes the port. Profiles in progress are cut at the deadline.
func (a *Admin) Shutdown(ctx context.Context) error {
	if err := a.server.Shutdown(ctx); err != nil {
		return a.server.Close()
	}
	return nil
}

// Part is the admin port as a part of a group.
func (a *Admin) Part() Part { return Part{Name: "admin", Run: a.Serve, Stop: a.Shutdown} }
