package redis

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/local/localtest"
	"github.com/agentflow/agentflow/services/limiter/internal/bucket"
)

// fakeClock is the clock of a Redis: the machine's, moved by an offset that libfaketime reads anew each time.
type fakeClock struct {
	t      *testing.T
	file   string
	offset time.Duration // of jumps
	passed time.Duration // that the test has not waited for
}

// redisWithClock starts a Redis whose clock the test moves.
func redisWithClock(t *testing.T) (*Door, *fakeClock) {
	t.Helper()
	server, err := exec.LookPath("redis-server")
	require.NoError(t, err)
	libraries, err := filepath.Glob("/usr/lib/*/faketime/libfaketime.so.1")
	require.NoError(t, err)
	require.NotEmpty(t, libraries, "libfaketime is missing: scripts/backends.sh faketime installs it")
	dir := t.TempDir()
	c := &fakeClock{t: t, file: filepath.Join(dir, "offset")}
	c.set()
	// libc comes before jemalloc here, which asks for the time while libfaketime, not yet ready to tell it, asks for memory.
	wrapper := fmt.Sprintf("#!/bin/sh\nFAKETIME_TIMESTAMP_FILE='%s' FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1 LD_PRELOAD='%s libc.so.6' exec '%s' \"$@\"\n",
		c.file, libraries[0], server)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "redis-server"), []byte(wrapper), 0o700))
	t.Setenv("PATH", dir+string(filepath.ListSeparator)+os.Getenv("PATH"))
	door, err := Open(Config{URL: localtest.RedisServer(t).URL(), Timeout: patience})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, door.Close()) })
	return door, c
}

// jump moves the clock, to later or to earlier.
func (c *fakeClock) jump(by time.Duration) {
	c.t.Helper()
	c.offset += by
	c.set()
}

// pass lets time pass.
func (c *fakeClock) pass(d time.Duration) {
	c.t.Helper()
	c.passed += d
	c.set()
}

func (c *fakeClock) set() {
	c.t.Helper()
	next := c.file + ".next" // Redis never reads half of an offset
	require.NoError(c.t, os.WriteFile(next, fmt.Appendf(nil, "%+f\n", (c.offset+c.passed).Seconds()), 0o600))
	require.NoError(c.t, os.Rename(next, c.file))
}

// real is a moment of Redis's clock on one that never jumps.
func (c *fakeClock) real(us int64) time.Time { return time.UnixMicro(us).Add(-c.offset) }

// TestARedisWhoseClockJumps empties a limit again and again while Redis's clock leaps ahead and goes back by an hour. A leap
// is worth one more window at most, going back is worth nothing; and nobody waits for longer than a window and a slot.
func TestARedisWhoseClockJumps(t *testing.T) {
	door, clock := redisWithClock(t)
	const most = 20 // of each limit, at once
	for name, limit := range map[string]struct {
		limits  bucket.Limits
		want    bucket.Want
		metric  bucket.Metric
		window  time.Duration // after which all of the limit is there again
		stretch int           // what may pass within any such time
	}{
		"even":     {bucket.Limits{Messages: most}, bucket.Want{Messages: 1}, bucket.Messages, time.Second, most},
		"burst":    {bucket.Limits{Messages: 1, Burst: most}, bucket.Want{Messages: 1}, bucket.Messages, most * time.Second, 2 * most},
		"requests": {bucket.Limits{Requests: most}, bucket.Want{Requests: 1}, bucket.Requests, time.Minute, most},
		"tokens":   {bucket.Limits{Tokens: most * 1000}, bucket.Want{Tokens: 1000}, bucket.Tokens, time.Minute, most},
	} {
		t.Run(name, func(t *testing.T) {
			longest := limit.window + limit.window/time.Duration(bucket.MinuteSlots)
			var passed, leaps []time.Time
			ask := func(n int) bucket.Answer {
				a, err := door.Acquire(t.Context(), Ask{
					Key: Key{Tenant: "acme", Queue: name}, Limits: limit.limits, Wants: slices.Repeat([]Want{{Want: limit.want}}, n),
				})
				require.NoError(t, err)
				require.GreaterOrEqual(t, a.Room[limit.metric].Remaining, int64(0))
				require.LessOrEqual(t, time.Duration(a.Room[limit.metric].Reset)*time.Microsecond, longest)
				require.LessOrEqual(t, time.Duration(a.Wait)*time.Microsecond, longest)
				now := clock.real(a.Now)
				passed = append(passed, slices.Repeat([]time.Time{now}, a.Granted)...)
				within := func(moments []time.Time) (n int) {
					for _, m := range moments {
						if m.After(now.Add(-limit.window)) {
							n++
						}
					}
					return n
				}
				require.LessOrEqual(t, within(passed), limit.stretch+most*within(leaps))
				return a.Answer
			}
			refused := ask(most + 1)
			for _, by := range []time.Duration{time.Hour, -time.Hour, -time.Hour, time.Hour, -2 * time.Hour, 2 * time.Hour} {
				before, n := refused.Now, len(passed)
				clock.jump(by)
				if by > 0 {
					leaps = append(leaps, passed[n-1])
				}
				refused = ask(most + 1)
				require.Positive(t, refused.Wait)
				if by > 0 {
					require.Greater(t, refused.Now-before, by.Microseconds(), "the clock did not leap")
					require.Greater(t, len(passed), n, "a leap makes old what was used")
				} else {
					require.Less(t, refused.Now, before, "the clock did not go back")
				}
				// The wait is as long as it was said to be.
				clock.pass(time.Duration(refused.Wait) * time.Microsecond)
				require.Equal(t, 1, ask(1).Granted, "%v after the clock moved by %v", time.Duration(refused.Wait)*time.Microsecond, by)
			}
		})
	}
}
