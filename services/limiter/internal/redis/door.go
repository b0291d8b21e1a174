package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/agentflow/agentflow/services/limiter/internal/bucket"
)

// ErrAway says that Redis gave no decision: it cannot be reached, is too slow, or takes no writes.
var ErrAway = errors.New("redis is away")

const (
	// enough failures in a row keep the door shut: one slow answer is not yet a dead Redis.
	enough = 3
	// probeEvery is how often a shut door is tried.
	probeEvery = 100 * time.Millisecond
	// scanTimeout bounds Reset, which looks through all keys of a node.
	scanTimeout = 5 * time.Second
)

// Config says where Redis is and how long to wait for it.
type Config struct {
	URL     string
	Timeout time.Duration // of one decision
	// Failed is told of every failure with its reason, one of few words. Optional.
	Failed func(reason string)
	// Turned is told when the door shuts and opens. Optional.
	Turned func(open bool, cause error)
}

// Door is the way to Redis. It is safe for concurrent use.
type Door struct {
	cfg     Config
	client  goredis.UniversalClient
	lanes   *lanes
	breaker circuitbreaker.CircuitBreaker[any]
	shut    chan struct{} // holds a token when the door has just shut

	mu     sync.Mutex
	cause  error // of the last failure
	victim Key   // whose call it was
}

var quiet = sync.OnceFunc(logging.Disable) // go-redis logs to stderr what it also returns

// Open prepares the door. It does not wait for Redis, which may come later.
func Open(cfg Config) (*Door, error) {
	quiet()
	o, err := parseURL(cfg.URL)
	if err != nil {
		return nil, err
	}
	o.MaxRetries = -1 // a script that timed out may have run: trying again would take twice
	o.DialerRetries = 1
	o.DialTimeout = max(time.Second, cfg.Timeout)
	o.ReadTimeout, o.WriteTimeout = cfg.Timeout, cfg.Timeout
	o.ContextTimeoutEnabled = true
	o.PoolSize, o.MinIdleConns, o.PipelinePoolSize = 2*laneCount, laneCount, laneCount
	o.PipelineReadBufferSize, o.PipelineWriteBufferSize = 32<<10, 32<<10
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	d := &Door{
		cfg: cfg, client: goredis.NewUniversalClient(o), shut: make(chan struct{}, 1),
		victim: Key{Tenant: "probe", Queue: "probe"},
	}
	d.lanes = newLanes(d.client, cfg.Timeout)
	// The breaker only counts: it never lets a call try a shut door, Watch does that.
	d.breaker = circuitbreaker.NewBuilder[any]().WithFailureThreshold(enough).WithDelay(365 * 24 * time.Hour).
		OnOpen(func(circuitbreaker.StateChangedEvent) { d.hasShut() }).Build()
	return d, nil
}

// Close closes the connections.
func (d *Door) Close() error {
	d.lanes.close()
	return d.client.Close()
}

// Acquire decides on a list of wants.
func (d *Door) Acquire(ctx context.Context, a Ask) (Answer, error) {
	v, err := d.run(ctx, a.Key, a.Key.all(), a.args()...)
	if err != nil {
		return Answer{}, err
	}
	return answer(v)
}

// Settle replaces a reservation by what was used.
func (d *Door) Settle(ctx context.Context, k Key, whole, share bucket.Limits, reservation string, used int64) (Settlement, error) {
	args := append(appendScopes([]any{"settle"}, k, whole, share), reservation, used)
	v, err := d.run(ctx, k, k.all(), args...)
	if err != nil {
		return Settlement{}, err
	}
	return Settlement{Now: v[0], Found: v[1] == 1, Taken: v[2], At: v[3]}, nil
}

// Usage reads the counters of a queue.
func (d *Door) Usage(ctx context.Context, k Key) (Usage, error) {
	v, err := d.run(ctx, k, []string{k.closed(), k.state()}, "usage")
	if err != nil {
		return Usage{}, err
	}
	u := Usage{Now: v[0], Closed: time.Duration(v[1]) * time.Millisecond}
	for m := range bucket.Metrics {
		u.Use[m] = bucket.Use{Used: v[2+2*m], Refused: v[3+2*m]}
	}
	return u, nil
}

// Shut closes a queue for a while, and says when it opens. A longer closing stands.
func (d *Door) Shut(ctx context.Context, k Key, duration time.Duration, because string) (time.Time, error) {
	v, err := d.run(ctx, k, []string{k.closed()}, "close", duration.Milliseconds(), because)
	if err != nil {
		return time.Time{}, err
	}
	return time.UnixMicro(v[0] + v[1]*1000), nil
}

// ShutFor is how long a queue stays closed, and Redis's time.
func (d *Door) ShutFor(ctx context.Context, k Key) (left time.Duration, now int64, err error) {
	v, err := d.run(ctx, k, []string{k.closed()}, "closed")
	if err != nil {
		return 0, 0, err
	}
	return time.Duration(v[1]) * time.Millisecond, v[0], nil
}

// Reset removes every key of a queue and says how many there were.
func (d *Door) Reset(ctx context.Context, k Key) (int, error) {
	if !d.breaker.IsClosed() {
		return 0, d.away()
	}
	ctx, cancel := context.WithTimeout(ctx, scanTimeout)
	defer cancel()
	var node goredis.Cmdable = d.client
	if c, ok := d.client.(*goredis.ClusterClient); ok {
		master, err := c.MasterForKey(ctx, k.closed())
		if err != nil {
			return 0, d.failed(ctx, k, err)
		}
		node = master
	}
	var keys []string
	scan := node.Scan(ctx, 0, k.prefix()+"*", 1000).Iterator()
	for scan.Next(ctx) {
		keys = append(keys, scan.Val())
	}
	if err := scan.Err(); err != nil {
		return 0, d.failed(ctx, k, err)
	}
	if len(keys) == 0 {
		return 0, nil
	}
	n, err := node.Del(ctx, keys...).Result()
	if err != nil {
		return 0, d.failed(ctx, k, err)
	}
	return int(n), nil
}

// run runs an operation of the script, unless the door is shut.
func (d *Door) run(ctx context.Context, k Key, keys []string, args ...any) ([]int64, error) {
	if !d.breaker.IsClosed() {
		return nil, d.away()
	}
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Timeout)
	defer cancel()
	reply, err := d.lanes.do(ctx, keys, args)
	if err != nil {
		return nil, d.failed(ctx, k, err)
	}
	d.breaker.RecordSuccess()
	v, err := integers(reply)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", args[0], err)
	}
	return v, nil
}

// away is the answer of a shut door.
func (d *Door) away() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return fmt.Errorf("%w: %w", ErrAway, d.cause)
}

// failed counts a failure, and shuts the door after enough of them.
func (d *Door) failed(ctx context.Context, k Key, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return err // the caller went away: that says nothing of Redis
	}
	reason, dead := diagnose(err)
	if d.cfg.Failed != nil {
		d.cfg.Failed(reason)
	}
	if !dead {
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	d.mu.Lock()
	d.cause, d.victim = err, k
	d.mu.Unlock()
	d.breaker.RecordFailure()
	return fmt.Errorf("%w: %w", ErrAway, err)
}

// hasShut wakes Watch.
func (d *Door) hasShut() {
	d.mu.Lock()
	cause := d.cause
	d.mu.Unlock()
	d.turned(false, cause)
	select {
	case d.shut <- struct{}{}:
	default: // Watch is on its way
	}
}

func (d *Door) turned(open bool, cause error) {
	if d.cfg.Turned != nil {
		d.cfg.Turned(open, cause)
	}
}

// Watch opens the door again once Redis takes writes. It returns when ctx ends.
func (d *Door) Watch(ctx context.Context) error {
	if err := d.probe(ctx); err != nil && ctx.Err() == nil {
		d.because(err)
		d.breaker.Open() // it is not there at the start: nobody has to find out the hard way
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-d.shut:
		}
		if err := d.reopen(ctx); err != nil {
			return err
		}
	}
}

// reopen tries a shut door until it gives way.
func (d *Door) reopen(ctx context.Context) error {
	ticker := time.NewTicker(probeEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		if err := d.probe(ctx); err != nil {
			d.because(err)
			continue
		}
		d.breaker.Close()
		d.turned(true, nil)
		return nil
	}
}

func (d *Door) because(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.cause = err
}

// probe writes where the last failure was: a PING would be content with a read-only replica.
func (d *Door) probe(ctx context.Context) error {
	d.mu.Lock()
	key := d.victim.probe()
	d.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Timeout)
	defer cancel()
	return d.client.Set(ctx, key, 1, time.Second).Err()
}

// Check is nil while Redis answers and takes writes.
func (d *Door) Check(ctx context.Context) error {
	if !d.breaker.IsClosed() {
		return d.away()
	}
	if err := d.probe(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	return nil
}

// diagnose names the reason of a failure, and says whether every call would fail like it.
func diagnose(err error) (reason string, dead bool) {
	var reply goredis.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return "timeout", true
	case !errors.As(err, &reply):
		return "unreachable", true
	}
	word, _, _ := strings.Cut(reply.Error(), " ")
	switch word {
	case "READONLY":
		return "readonly", true
	case "LOADING", "BUSY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "OOM", "MISCONF", "NOREPLICAS":
		return "unready", true
	case "NOAUTH", "WRONGPASS", "NOPERM":
		return "denied", true
	default:
		return "script", false // of this key alone, such as a foreign value under it
	}
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}
