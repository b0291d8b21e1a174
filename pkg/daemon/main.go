package daemon

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"
	"time"

	"go.opentelemetry.io/otel"
	"go.uber.org/zap"
)

// What Main exits with.
const (
	exitOK     = 0
	exitFailed = 1
	exitConfig = 2 // the configuration or the command line is wrong; starting again will not help
)

// doorTime is what a service gets on top of its shutdown timeout to close its doors when the timeout was used up.
const doorTime = 10 * time.Second

// RunFunc is a service: it wires its parts, runs until ctx ends, and returns when everything has stopped.
type RunFunc[C Config] func(ctx context.Context, rt *Runtime, cfg C) error

// Main is the main function of a service. It reads the configuration, opens the admin port, runs the service
// until SIGTERM or SIGINT, and exits: 0 after an orderly end, 1 after an error, 2 for a wrong configuration. A
// second signal ends the process at once. It never returns.
func Main[C Config](name string, run RunFunc[C]) {
	p := process[C]{name: name, run: run, environ: os.Environ(), stdout: os.Stdout, stderr: os.Stderr, exit: os.Exit}
	os.Exit(p.main(os.Args[1:]))
}

// process is one run of a service's binary.
type process[C Config] struct {
	name           string
	run            RunFunc[C]
	environ        []string
	stdout, stderr io.Writer
	exit           func(code int) // leaves without an orderly end
}

func (p process[C]) main(args []string) int {
	command := ""
	if len(args) > 0 {
		command = args[0]
	}
	switch {
	case len(args) > 1:
		return p.usageError(args[1])
	case command == "":
		return p.serve()
	case command == "-h" || command == "--help" || command == "-help" || command == "help":
		return p.report(Usage[C](p.stdout, p.name), exitFailed)
	case command == "--version" || command == "-version" || command == "version":
		_, err := fmt.Fprintln(p.stdout, p.name, Version())
		return p.report(err, exitFailed)
	case command == "healthcheck":
		return p.healthcheck()
	default:
		return p.usageError(command)
	}
}

func (p process[C]) usageError(argument string) int {
	return p.report(fmt.Errorf("%s: unknown argument %q; %s --help says what there is", p.name, argument, p.name), exitConfig)
}

// report prints err, if any, and gives the exit code.
func (p process[C]) report(err error, code int) int {
	if err == nil {
		return exitOK
	}
	_, _ = fmt.Fprintln(p.stderr, err) // with stderr gone there is nobody to tell
	return code
}

// healthcheck asks the admin port of the service on this machine, for containers that have no curl.
func (p process[C]) healthcheck() int {
	cfg, err := Load[C](p.environ)
	if err != nil {
		return p.report(err, exitConfig)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	return p.report(probe(ctx, cfg.common().AdminAddr), exitFailed)
}

// probe is nil when the admin port at addr says ready.
func probe(ctx context.Context, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("admin address: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
		host = "localhost" // the port is open on every address; this one leads to it whatever the IP version
	}
	url := "http://" + net.JoinHostPort(host, port) + "/health/ready"
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return fmt.Errorf("health check: %w", err)
	}
	// No proxy: the port is ours.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("health check: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(response.Body, 4<<10)) // best effort: the status is the answer
		return fmt.Errorf("health check: %s %s", response.Status, body)
	}
	return nil
}

func (p process[C]) serve() int {
	// Signals are caught before anything else: one that arrives while the service starts must not kill it.
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)

	cfg, err := Load[C](p.environ)
	if err != nil {
		return p.report(fmt.Errorf("%s: %w", p.name, err), exitConfig)
	}
	rt, err := newRuntime(p.name, cfg.common(), p.stderr)
	if err != nil {
		return p.report(fmt.Errorf("%s: %w", p.name, err), exitConfig)
	}
	rt.Mask(Secrets(cfg)...)
	// The exporter can report its troubles only through this global. A process of one service may set it.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { rt.Log.Warn("traces", zap.Error(err)) }))
	for _, hint := range misspelt[C](p.environ) {
		rt.Log.Warn("unknown variable, perhaps misspelt", zap.String("variable", hint.Variable), zap.String("meant", hint.Value))
	}
	rt.Log.Info("starting", zap.Dict("config", settingFields(Masked(cfg))...))

	err = p.supervise(rt, cfg, signals)
	if err != nil {
		rt.Log.Error("stopped", zap.Error(err))
	} else {
		rt.Log.Info("stopped")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if closeErr := rt.Close(ctx); closeErr != nil {
		rt.Log.Warn("not everything was sent", zap.Error(closeErr))
	}
	if err != nil {
		return exitFailed
	}
	return exitOK
}

// supervise runs the admin port and the service until the service has stopped.
func (p process[C]) supervise(rt *Runtime, cfg C, signals <-chan os.Signal) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stopped := make(chan struct{})
	defer close(stopped)
	go p.obey(rt, signals, cancel, stopped)

	admin, err := rt.Admin(ctx, cfg.common().AdminAddr)
	if err != nil {
		return err
	}
	rt.Health.starting.Store(true) // until the service's group runs
	g := rt.Group()
	g.outer = true
	g.Timeout += doorTime
	g.Add(admin.Part())
	g.Add(Part{Name: p.name, Run: func(ctx context.Context) error { return p.run(ctx, rt, cfg) }})
	return g.Run(ctx)
}

// obey turns the first signal into a drain and the end of ctx, and the second into the end of the process. It
// also ends a process whose service does not stop though its time is up, and leaves the reason in the log.
func (p process[C]) obey(rt *Runtime, signals <-chan os.Signal, cancel context.CancelFunc, stopped <-chan struct{}) {
	var first os.Signal
	select {
	case first = <-signals:
	case <-stopped:
		return
	}
	rt.Log.Info("signal", zap.Stringer("signal", first), zap.Duration("delay", rt.config.ShutdownDelay))
	rt.Health.Drain()
	delay := time.NewTimer(rt.config.ShutdownDelay)
	defer delay.Stop()
	// The group gives every part its time and some grace; this is for what even that cannot end.
	limit := time.NewTimer(rt.config.ShutdownDelay + rt.config.ShutdownTimeout + 2*doorTime)
	defer limit.Stop()
	for {
		select {
		case <-delay.C:
			cancel()
		case again := <-signals:
			rt.Log.Warn("second signal, ending at once", zap.Stringer("signal", again))
			p.exit(exitFailed)
			return
		case <-limit.C:
			rt.Log.Error("does not stop, ending at once", zap.Error(ErrTooSlow))
			_ = pprof.Lookup("goroutine").WriteTo(p.stderr, 1) // why it hangs; best effort
			p.exit(exitFailed)
			return
		case <-stopped:
			return
		}
	}
}
