package api

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/daemon"
)

// metrics of the HTTP side. Routes are templates, so no label grows without bound.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
	streams  prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "agentflow_http_requests_total", Help: "Requests answered, by method, route and status.",
		}, []string{"method", "route", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "agentflow_http_request_duration_seconds", Help: "Time from the request's arrival to its answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}, []string{"method", "route"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "agentflow_http_requests_in_flight", Help: "Requests being answered now.",
		}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "agentflow_http_streams", Help: "Event streams open now.",
		}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.duration, m.inFlight, m.streams} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

// unmatched stands for every address that is no route.
const unmatched = "unmatched"

// observe is the outermost handler: it names the request, follows it with a span, a log line and
// metrics, and turns errors and panics into answers.
func (s *Server) observe(c *fiber.Ctx) error {
	r := &request{
		started: time.Now(), id: requestID(c.Get(fiber.HeaderXRequestID)), frozen: isFrozen(c.Path()),
	}
	ctx := context.WithValue(s.hurry, requestKey{}, r)
	ctx = daemon.WithScope(ctx, daemon.Scope{RequestID: r.id})
	ctx, r.span = s.tracer.Start(s.rt.Propagator.Extract(ctx, headers{c}), "HTTP", trace.WithSpanKind(trace.SpanKindServer))
	c.SetUserContext(ctx)
	c.Set(fiber.HeaderXRequestID, r.id)
	secure(c)

	s.metrics.inFlight.Inc()
	if err := s.guarded(c); err != nil {
		s.fail(c, r, err)
	}
	s.metrics.inFlight.Dec()
	s.account(c, r)
	return nil
}

// guarded calls the handlers behind observe.
func (s *Server) guarded(c *fiber.Ctx) (err error) {
	defer s.rt.Recover(c.UserContext(), &err)
	if s.draining.Load() {
		c.Set(fiber.HeaderConnection, "close")
		if !isHealth(c.Path()) {
			return newProblem(codeDraining, "this gateway is about to end; try again, another one will answer")
		}
	}
	return c.Next()
}

// account writes down how a request ended.
func (s *Server) account(c *fiber.Ctx, r *request) {
	took := time.Since(r.started)
	status := c.Response().StatusCode()
	route := unmatched
	if matched := c.Route(); matched != nil && matched.Path != "/" || c.Path() == "/" {
		route = matched.Path
	}
	method := methodOf(c)
	s.metrics.requests.WithLabelValues(method, route, strconv.Itoa(status)).Inc()
	s.metrics.duration.WithLabelValues(method, route).Observe(took.Seconds())

	if r.span.IsRecording() {
		r.span.SetName(method + " " + route)
		r.span.SetAttributes(
			attribute.String("http.request.method", method), attribute.String("http.route", route),
			attribute.Int("http.response.status_code", status), attribute.String("agentflow.tenant", string(r.tenant)),
			attribute.String("agentflow.execution_id", string(r.execution)),
		)
		if status >= fiber.StatusInternalServerError {
			r.span.SetStatus(codes.Error, "")
		}
	}
	r.span.End()
	s.logged(c, r, route, status, took)
}

// methodOf is the method as a text that outlives the request, and one of few.
func methodOf(c *fiber.Ctx) string {
	for _, m := range fiber.DefaultMethods {
		if m == c.Method() {
			return m
		}
	}
	return "OTHER"
}

func (s *Server) logged(c *fiber.Ctx, r *request, route string, status int, took time.Duration) {
	level := zap.InfoLevel
	if status >= fiber.StatusInternalServerError {
		level = zap.WarnLevel
	}
	entry := s.rt.Log.Check(level, "request")
	if entry == nil {
		return
	}
	var room [12]zap.Field
	fields := append(room[:0],
		zap.String("request_id", r.id), zap.String("method", c.Method()), zap.String("route", route), zap.Int("status", status),
		zap.Duration("took", took), zap.String("remote", c.IP()),
	)
	if !c.Response().IsBodyStream() { // asking a stream for its body reads it to its end: nothing of it would be live
		fields = append(fields, zap.Int("bytes", len(c.Response().Body())))
	}
	if r.tenant != "" {
		fields = append(fields, zap.String("tenant", string(r.tenant)), zap.String("actor", r.who.Actor))
	}
	if r.workflow != "" {
		fields = append(fields, zap.String("workflow_id", r.workflow))
	}
	if r.execution != "" {
		fields = append(fields, zap.String("execution_id", string(r.execution)))
	}
	if r.problem != nil {
		fields = append(fields, zap.String("code", r.problem.Code))
	}
	entry.Write(fields...)
}

// early answers what fails before or behind every handler: a request that cannot be read.
func (s *Server) early(c *fiber.Ctx, err error) error {
	r := &request{started: time.Now(), id: requestID(c.Get(fiber.HeaderXRequestID)), frozen: isFrozen(c.Path())}
	r.span = trace.SpanFromContext(context.Background())
	c.Set(fiber.HeaderXRequestID, r.id)
	secure(c)
	s.fail(c, r, err)
	c.Set(fiber.HeaderConnection, "close")
	if c.Response().StatusCode() == fiber.StatusRequestEntityTooLarge {
		swallow(c)
	}
	s.account(c, r)
	return nil
}

// secure sets the headers that keep browsers from doing more with an answer than it is for.
func secure(c *fiber.Ctx) {
	h := &c.Response().Header
	h.Set(fiber.HeaderXContentTypeOptions, "nosniff")
	h.Set(fiber.HeaderXFrameOptions, "DENY")
	h.Set(fiber.HeaderReferrerPolicy, "no-referrer")
	h.Set(fiber.HeaderContentSecurityPolicy, "default-src 'none'; frame-ancestors 'none'")
	h.Set(fiber.HeaderCacheControl, "no-store")
}

// headers lets the trace of the caller be read from a request.
type headers struct{ c *fiber.Ctx }

// Get copies: a span may be exported long after fiber has used its buffer again.
func (h headers) Get(key string) string { return strings.Clone(h.c.Get(key)) }
func (h headers) Set(key, value string) { h.c.Request().Header.Set(key, value) }
func (h headers) Keys() []string        { return nil }
