package bus

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// Config says how to reach NATS and how the streams are laid out.
type Config struct {
	URL          string `env:"NATS_URL" envDefault:"nats://127.0.0.1:4222" help:"NATS servers, comma-separated"`
	User         string `env:"NATS_USER" help:"user name, if the server asks for one"`
	Password     string `env:"NATS_PASSWORD" secret:"true" help:"password of NATS_USER"`
	CredsFile    string `env:"NATS_CREDS_FILE" check:"file" help:"credentials file (JWT and seed)"`
	NKeyFile     string `env:"NATS_NKEY_FILE" check:"file" help:"file with the nkey seed of this service"`
	CAFile       string `env:"NATS_CA_FILE" check:"file" help:"certificate authority of the NATS servers; turns TLS on"`
	Partitions   int    `env:"EXECUTION_PARTITIONS" envDefault:"8" check:"min=1,max=256" help:"partitions of the execution log, fixed at creation"`
	Replicas     int    `env:"NATS_REPLICAS" envDefault:"1" check:"min=1,max=5" help:"copies of every stream: 1, or 3 where there are three servers"`
	MaxBytes     int64  `env:"EXECUTION_LOG_MAX_BYTES" envDefault:"2147483648" help:"size of the hot execution log over all partitions, in bytes, when its streams are made; when full, new requests get 503"`
	CreateLayout bool   `env:"NATS_CREATE_STREAMS" envDefault:"true" help:"create streams and buckets that do not exist"`

	// InProcess connects to a server in this process instead of URL.
	InProcess nats.InProcessConnProvider `env:"-"`
	Name      string                     `env:"-"` // shown by the server's connection list, and part of every inbox
	CallsOnly bool                       `env:"-"` // answers and makes calls, and has no use for streams
	Log       *zap.Logger                `env:"-"`
	Tracer    trace.TracerProvider       `env:"-"` // nil: no spans
}

// Bus is a connection to NATS. It is safe for concurrent use.
type Bus struct {
	cfg Config
	nc  *nats.Conn
	js  jetstream.JetStream
	log *zap.Logger

	tracer trace.Tracer

	mu      sync.Mutex
	streams map[string]jetstream.Stream
	kvs     map[string]jetstream.KeyValue
	objects jetstream.ObjectStore
	inboxes *inboxes
}

// Sentinels of this package.
var (
	// ErrConflict says that another writer was first.
	ErrConflict = errors.New("another commit was first")
	// ErrNotFound says that the log holds nothing of the aggregate.
	ErrNotFound = errors.New("not in the log")
	// ErrLogFull says that the stream takes no more until it is trimmed.
	ErrLogFull = errors.New("the log is full")
	// ErrUnavailable says that NATS or the called service did not answer.
	ErrUnavailable = errors.New("no answer")
	// ErrLayout says that the streams were made for another number of partitions.
	ErrLayout = errors.New("EXECUTION_PARTITIONS does not match the streams")
)

// Connect opens the connection, and creates the layout unless the configuration forbids it.
func Connect(ctx context.Context, cfg Config) (*Bus, error) {
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	if cfg.Tracer == nil {
		cfg.Tracer = noop.NewTracerProvider()
	}
	if cfg.Partitions <= 0 {
		cfg.Partitions = protocol.DefaultParts
	}
	opts := []nats.Option{
		nats.Name(cfg.Name),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.RetryOnFailedConnect(false),
		nats.Timeout(5 * time.Second),
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		// A publish while disconnected must fail rather than pretend: it is retried under its fence.
		nats.ReconnectBufSize(-1),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil { // nil when we closed it ourselves
				cfg.Log.Warn("nats connection lost", zap.Error(err))
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			cfg.Log.Info("nats connection restored", zap.String("server", nc.ConnectedUrlRedacted()))
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			subject := ""
			if sub != nil {
				subject = sub.Subject
			}
			cfg.Log.Warn("nats error", zap.String("subject", subject), zap.Error(err))
		}),
	}
	if cfg.User != "" {
		opts = append(opts, nats.UserInfo(cfg.User, cfg.Password))
	}
	if cfg.CredsFile != "" {
		opts = append(opts, nats.UserCredentials(cfg.CredsFile))
	}
	if cfg.NKeyFile != "" {
		o, err := nats.NkeyOptionFromSeed(cfg.NKeyFile)
		if err != nil {
			return nil, fmt.Errorf("read NATS_NKEY_FILE: %w", err)
		}
		opts = append(opts, o)
	}
	if cfg.CAFile != "" {
		opts = append(opts, nats.RootCAs(cfg.CAFile))
	}
	if inboxName.MatchString(cfg.Name) {
		// Inboxes of a service stand under its name, so that its user alone may listen to them.
		opts = append(opts, nats.CustomInboxPrefix("_INBOX."+cfg.Name))
	}
	if cfg.InProcess != nil {
		opts = append(opts, nats.InProcessServer(cfg.InProcess))
	}
	nc, err := nats.Connect(cfg.URL, opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS at %s: %w", cfg.URL, err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	b := &Bus{cfg: cfg, nc: nc, js: js, log: cfg.Log, tracer: cfg.Tracer.Tracer("agentflow/bus"), streams: map[string]jetstream.Stream{}, kvs: map[string]jetstream.KeyValue{}}
	if cfg.CallsOnly {
		return b, nil
	}
	if cfg.CreateLayout {
		if err := b.createLayout(ctx); err != nil {
			nc.Close()
			return nil, err
		}
	} else if err := b.checkLayout(ctx); err != nil {
		nc.Close()
		return nil, err
	}
	return b, nil
}

// inboxName matches the names that can be a token of a subject.
var inboxName = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)

// Close ends the connection after what was published has been written to the socket.
func (b *Bus) Close() {
	if b.nc.IsConnected() {
		_ = b.nc.FlushTimeout(2 * time.Second) // what a dying connection still holds is lost anyway
	}
	b.nc.Close()
}

// Partitions is the number of partitions of the execution log.
func (b *Bus) Partitions() int { return b.cfg.Partitions }

// Key places an execution in its partition.
func (b *Bus) Key(t protocol.TenantID, id protocol.ExecutionID) protocol.ExecutionKey {
	return protocol.KeyOf(b.cfg.Partitions, t, id)
}

// Ping asks the server for a sign of life.
func (b *Bus) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout) // the client insists on a deadline
	defer cancel()
	if err := b.nc.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("ping NATS: %w", err)
	}
	return nil
}

// stream returns a handle without asking the server each time.
func (b *Bus) stream(ctx context.Context, name string) (jetstream.Stream, error) {
	b.mu.Lock()
	s, ok := b.streams[name]
	b.mu.Unlock()
	if ok {
		return s, nil
	}
	s, err := b.js.Stream(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", name, err)
	}
	b.mu.Lock()
	b.streams[name] = s
	b.mu.Unlock()
	return s, nil
}
