package source

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/zap"

	"github.com/agentflow/agentflow/services/executor/internal/egress"
	"github.com/agentflow/agentflow/services/executor/internal/secret"
)

// Caller identifies on whose behalf and for which step an outside call is made.
type Caller struct {
	Tenant    string
	Execution string
	Node      string

	// IdempotencyKey is the same for every attempt of one step: "<execution>/<node>/<iteration>".
	// It is sent with every HTTP call, so that a peer which honours it does the work once.
	IdempotencyKey string

	// Progress, when set, receives the text of a language model as it is written.
	// It is called from the goroutine that made the call and must not block.
	Progress func(text string)
}

// Objects keeps values that are too large to travel inside an event.
type Objects interface {
	Put(ctx context.Context, tenant string, data []byte, mime string) (ref string, err error)
}

// Observation is what one finished call looked like, for metrics.
type Observation struct {
	Kind     string // llm, image, db, api
	Provider string
	Class    Class // "" when the call succeeded
	Duration time.Duration
	Input    int64 // tokens of an llm call
	Output   int64
}

// Config is everything [New] needs. The zero value works: it reads the process environment
// under the default secrets policy and refuses every private address.
type Config struct {
	LookupEnv    func(name string) (string, bool) // nil: os.LookupEnv
	SecretsAllow string                           // SECRETS_ALLOW; "" is the default list
	PlatformEnv  []string                         // more names that are never readable
	EgressAllow  string                           // EGRESS_ALLOW: CIDRs and host names

	// Base URLs of the providers, when the operator replaces the public ones.
	OpenAIBaseURL    string
	GroqBaseURL      string
	AnthropicBaseURL string
	GeminiBaseURL    string
	OllamaBaseURL    string

	Logger  *zap.Logger          // nil: silent
	Tracer  trace.TracerProvider // nil: no spans
	Observe func(Observation)
	Objects Objects // nil: large values stay inline up to the cap

	// LargeBytes is the size from which binary data goes to Objects; 0 means 256 KiB.
	LargeBytes int
	// MaxResponseBytes caps what one API or SQL answer may hold after decompression; 0 means 5 MiB.
	MaxResponseBytes int64
	// IdlePool is how long an unused SQL pool stays open; 0 means 10 minutes.
	IdlePool time.Duration
	// Breaker tunes the circuit breakers; the zero value means the defaults.
	Breaker BreakerConfig
}

const (
	defaultLargeBytes       = 256 << 10
	defaultMaxResponseBytes = 5 << 20
	// maxProviderBytes caps the answers of model providers: a 4K image in base64 is far over 5 MiB.
	maxProviderBytes = 64 << 20
	defaultIdlePool  = 10 * time.Minute
	defaultTimeout   = 30 * time.Second
	// providerTimeout bounds a model call whose context has no deadline of its own.
	providerTimeout = 10 * time.Minute
)

// Sources makes outside calls. It owns connection pools, circuit breakers and token caches, and
// is safe for concurrent use.
type Sources struct {
	cfg       Config
	log       *zap.Logger
	tracer    trace.Tracer
	guard     *egress.Guard
	resolver  *secret.Resolver
	masks     *secret.Maskers
	transport *http.Transport // its connection pools are per host
	apiHTTP   *http.Client
	llmHTTP   *http.Client // the same transport with the providers' larger cap
	bases     map[string]string
	breakers  *breakers
	clients   *clientCache
	tokens    *tokenCache
	pools     *poolCache

	closeOnce sync.Once
}

// CheckLists says what New would find wrong with SECRETS_ALLOW and with EGRESS_ALLOW.
func CheckLists(secretsAllow, egressAllow string) (secrets, hosts error) {
	_, secrets = secret.NewPolicy(secretsAllow)
	_, hosts = egress.New(egressAllow)
	return secrets, hosts
}

// New prepares the outside world. It dials nothing.
func New(cfg Config) (*Sources, error) {
	if cfg.LookupEnv == nil {
		cfg.LookupEnv = os.LookupEnv
	}
	if cfg.Logger == nil {
		cfg.Logger = zap.NewNop()
	}
	if cfg.LargeBytes <= 0 {
		cfg.LargeBytes = defaultLargeBytes
	}
	if cfg.MaxResponseBytes <= 0 {
		cfg.MaxResponseBytes = defaultMaxResponseBytes
	}
	if cfg.IdlePool <= 0 {
		cfg.IdlePool = defaultIdlePool
	}
	guard, err := egress.New(cfg.EgressAllow)
	if err != nil {
		return nil, fmt.Errorf("EGRESS_ALLOW: %w", err)
	}
	policy, err := secret.NewPolicy(cfg.SecretsAllow, cfg.PlatformEnv...)
	if err != nil {
		return nil, fmt.Errorf("SECRETS_ALLOW: %w", err)
	}
	if cfg.Tracer == nil {
		cfg.Tracer = noop.NewTracerProvider()
	}
	masks := secret.NewMaskers()
	transport := guard.Transport()
	return &Sources{
		cfg:       cfg,
		transport: transport,
		log:       cfg.Logger,
		tracer:    cfg.Tracer.Tracer("agentflow/source"),
		guard:     guard,
		masks:     masks,
		resolver:  secret.NewResolver(policy, cfg.LookupEnv, masks),
		apiHTTP:   guard.Client(transport, cfg.MaxResponseBytes),
		llmHTTP:   guard.Client(headTransport{transport}, maxProviderBytes),
		bases: map[string]string{
			"openai": cfg.OpenAIBaseURL, "groq": cfg.GroqBaseURL, "anthropic": cfg.AnthropicBaseURL,
			"gemini": cfg.GeminiBaseURL, "ollama": cfg.OllamaBaseURL,
		},
		breakers: newBreakers(cfg.Breaker),
		clients:  newClientCache(),
		tokens:   newTokenCache(),
		pools:    newPoolCache(cfg.IdlePool),
	}, nil
}

// Close ends every pool. Calls that are still running fail.
func (s *Sources) Close() error {
	var err error
	s.closeOnce.Do(func() {
		err = s.pools.close()
		s.transport.CloseIdleConnections()
	})
	return err
}

// Mask replaces every secret value that this process has resolved for a tenant so far.
func (s *Sources) Mask(tenant, text string) string { return s.masks.Of(tenant).Mask(text) }
