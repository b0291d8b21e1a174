package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// callTimeout bounds a call whose context has no deadline.
const callTimeout = 10 * time.Second

// Request makes a call and waits for its answer. Refusals come back as *protocol.Error; when no
// service answers the error is ErrUnavailable.
func Request[Req, Resp any](ctx context.Context, b *Bus, call protocol.Call[Req, Resp], req Req) (Resp, error) {
	var zero Resp
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, callTimeout)
		defer cancel()
	}
	body, err := marshal(req)
	if err != nil {
		return zero, fmt.Errorf("call %s: encode: %w", call.Subject, err)
	}
	msg := &nats.Msg{Subject: protocol.CallSubject(call.Subject), Data: body, Header: nats.Header{}}
	injectTrace(ctx, msg.Header)
	answer, err := b.nc.RequestMsgWithContext(ctx, msg)
	if err != nil {
		return zero, fmt.Errorf("call %s: %w", call.Subject, errors.Join(ErrUnavailable, err))
	}
	resp, err := DecodeReply[Resp](answer.Data)
	if err != nil {
		return zero, fmt.Errorf("call %s: %w", call.Subject, err)
	}
	return resp, nil
}

// DecodeReply reads a reply to a call or a command.
func DecodeReply[T any](body []byte) (T, error) {
	if v, ok := decodeOK[T](body); ok {
		return v, nil
	}
	var (
		zero T
		r    protocol.Reply[T]
	)
	if err := json.Unmarshal(body, &r); err != nil {
		return zero, fmt.Errorf("decode reply: %w", err)
	}
	if r.Error != nil {
		return zero, r.Error
	}
	if r.OK != nil {
		return *r.OK, nil
	}
	var present struct {
		OK json.RawMessage `json:"ok"`
	}
	// null is a result too: that of a list with nothing in it.
	if err := json.Unmarshal(body, &present); err != nil || present.OK == nil {
		return zero, errors.New("decode reply: neither result nor error")
	}
	return zero, nil
}

// EncodeReply renders a result or an error for the wire. Errors that are no *protocol.Error
// become INTERNAL without their text, which may hold what a user must not see.
func EncodeReply[T any](v T, err error) ([]byte, error) {
	var r protocol.Reply[T]
	var perr *protocol.Error
	switch {
	case err == nil:
		if body, generated, err := encodeOK(v); generated {
			return body, err
		}
		r.OK = &v
	case errors.As(err, &perr):
		r.Error = perr
	case errors.Is(err, ErrUnavailable):
		r.Error = &protocol.Error{Code: protocol.CodeUnavailable, Message: "a part of the platform does not answer; try again", RetryAfterMS: 1000}
	default:
		r.Error = &protocol.Error{Code: protocol.CodeInternal, Message: "internal error"}
	}
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode reply: %w", err)
	}
	return body, nil
}

// Service answers calls; it shows up in `nats micro ls`.
type Service struct {
	svc   micro.Service
	bus   *Bus
	calls int // endpoints
	slots chan struct{}
	wg    sync.WaitGroup
	ctx   context.Context //nolint:containedctx // the life of the service, handed to each handler
	stop  context.CancelFunc
}

var semver = regexp.MustCompile(`^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)

// Serve announces a service. At most concurrency calls are handled at a time; more wait.
func (b *Bus) Serve(name, version string, concurrency int) (*Service, error) {
	if !semver.MatchString(version) {
		version = "0.0.0-" + version // what is built outside a release; the service framework takes semantic versions only
	}
	svc, err := micro.AddService(b.nc, micro.Config{Name: name, Version: version, Description: "AgentFlow " + name})
	if err != nil {
		return nil, fmt.Errorf("announce service %s: %w", name, err)
	}
	ctx, stop := context.WithCancel(context.Background())
	return &Service{svc: svc, bus: b, slots: make(chan struct{}, concurrency), ctx: ctx, stop: stop}, nil
}

// Handle answers one call of a service.
func Handle[Req, Resp any](s *Service, call protocol.Call[Req, Resp], fn func(context.Context, Req) (Resp, error)) error {
	answer := func(r micro.Request) {
		var req Req
		var (
			resp Resp
			err  error
		)
		ctx, done := s.bus.Trace(extractTrace(s.ctx, nats.Header(r.Headers())), "call "+call.Subject, trace.SpanKindServer)
		if err = unmarshal(r.Data(), &req); err != nil {
			err = &protocol.Error{Code: protocol.CodeMalformed, Message: "call " + call.Subject + ": " + err.Error()}
		} else {
			resp, err = guarded(ctx, s, call, r.Data(), req, fn)
		}
		done(err)
		body, err := EncodeReply(resp, err)
		if err != nil {
			s.bus.log.Error("call answer", zap.String("call", call.Subject), zap.Error(err))
			return
		}
		if err := r.Respond(body); err != nil {
			s.bus.log.Warn("call answer not sent", zap.String("call", call.Subject), zap.Error(err))
		}
	}
	// The micro package runs one handler at a time for an endpoint; calls must not wait for each other.
	handler := micro.HandlerFunc(func(r micro.Request) {
		s.wg.Add(1)
		s.slots <- struct{}{}
		go func() {
			defer s.wg.Done()
			defer func() { <-s.slots }()
			answer(r)
		}()
	})
	err := s.svc.AddEndpoint(strings.ReplaceAll(call.Subject, ".", "-"), handler, micro.WithEndpointSubject(protocol.CallSubject(call.Subject)))
	if err != nil {
		return fmt.Errorf("answer %s: %w", call.Subject, err)
	}
	// The server knows of it when this returns, so nobody is told any more that nobody answers. A server that is away hears
	// of it when it is back.
	_ = s.bus.nc.FlushTimeout(time.Second)
	s.calls++
	return nil
}

// guarded tells of errors that nobody expected, and turns a panic into one: one call's bug must not end the calls beside it.
func guarded[Req, Resp any](ctx context.Context, s *Service, call protocol.Call[Req, Resp], body []byte, req Req, fn func(context.Context, Req) (Resp, error)) (resp Resp, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
			s.tell("call panicked", call.Subject, body, err, zap.ByteString("stack", debug.Stack()))
		}
	}()
	if resp, err = fn(ctx, req); err != nil && protocol.CodeOf(err) == protocol.CodeInternal && !errors.Is(err, ErrUnavailable) {
		s.tell("call failed", call.Subject, body, err)
	}
	return resp, err
}

// tell logs what went wrong with a call, and on whose behalf it was made.
func (s *Service) tell(said, call string, body []byte, err error, more ...zap.Field) {
	s.bus.log.Error(said, append(append(askedFor(body), zap.String("call", call), zap.Error(err)), more...)...)
}

// drainWait bounds how long Stop waits for calls that have arrived and not begun.
const drainWait = 2 * time.Second

// Stop takes no more calls, answers those that have arrived, and waits for those under way.
func (s *Service) Stop() error {
	before := s.bus.nc.NumSubscriptions()
	err := s.svc.Stop()
	// The micro package drains its subscriptions in the background and does not tell when that is
	// done. A subscription is gone when its last message has been handed out.
	for end := time.Now().Add(drainWait); s.bus.nc.NumSubscriptions() > before-s.calls && time.Now().Before(end) && !s.bus.nc.IsClosed(); {
		time.Sleep(time.Millisecond) //nolint:forbidigo // there is nothing to wait on
	}
	s.wg.Wait()
	s.stop()
	if err != nil {
		return fmt.Errorf("stop service: %w", err)
	}
	return nil
}
