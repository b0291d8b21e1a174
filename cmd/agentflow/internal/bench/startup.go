package bench

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
)

// warmStarts is how often a platform is started again; the middle one counts.
const warmStarts = 3

// starts measures how long agentflow up takes until it is ready: on an empty folder, and again on what is there then.
func (b *bencher) starts(ctx context.Context) (err error) {
	dir, remove, err := b.folder()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	var warm []float64
	start := &Startup{}
	for i := range 1 + warmStarts {
		if i == 0 {
			b.progress.say("first start")
		} else {
			b.progress.say("warm start")
		}
		c, err := startChild(ctx, b.Options, filepath.Join(dir, "data"))
		if err != nil {
			return err
		}
		if i == 0 {
			start.FreshSeconds = c.startup.Seconds()
		} else {
			warm = append(warm, c.startup.Seconds())
		}
		start.ResidentBytes = resident(c.PID)
		if err := c.stop(); err != nil {
			return err
		}
	}
	slices.Sort(warm)
	start.WarmSeconds = warm[len(warm)/2]
	b.report.Startup = start
	return nil
}
