package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/agentflow/agentflow/db"
	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/services/catalog/internal/postgres"
	"github.com/agentflow/agentflow/services/catalog/internal/service"
)

// Schemas beside the live one, for as long as it takes.
const (
	replaySchema = db.Schema + "_replay"
	verifySchema = db.Schema + "_verify"
)

// Replay builds every table again, from the CATALOG stream, the archive and the hot log, in a
// fresh schema, and puts it in the place of the live one. The service goes on working meanwhile.
// DatabaseURL must be the owner's. What it does stands on progress, line by line.
func Replay(ctx context.Context, cfg Config, b *bus.Bus, progress io.Writer) error {
	r, err := openRebuild(ctx, cfg, b, replaySchema, progress)
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	defer r.close()
	err = func() error {
		if err := r.build(ctx); err != nil {
			return err
		}
		// What came in meanwhile, so that little is left to the projector after the swap.
		if err := r.build(ctx); err != nil {
			return err
		}
		r.say("putting the new tables in place")
		for try := 1; ; try++ {
			err := r.live.Swap(ctx, replaySchema, r.build)
			if !errors.Is(err, postgres.ErrUnavailable) || try == 5 || ctx.Err() != nil {
				return err
			}
			r.say("the tables are busy, trying again")
		}
	}()
	if err != nil {
		return fmt.Errorf("replay: %w", errors.Join(err, r.drop(ctx)))
	}
	r.say("done")
	return nil
}

// rebuild is a schema that is filled from the log.
type rebuild struct {
	schema      string
	live, fresh *postgres.Store // as the owner
	service     *service.Service
	progress    io.Writer
	said        map[string]time.Time
}

func openRebuild(ctx context.Context, cfg Config, b *bus.Bus, schema string, progress io.Writer) (*rebuild, error) {
	owner, err := db.CanBypass(ctx, cfg.DatabaseURL)
	if err != nil {
		return nil, err
	}
	if !owner {
		return nil, errors.New("DATABASE_URL must be the owner's: a schema has to be made")
	}
	r := &rebuild{schema: schema, progress: progress, said: map[string]time.Time{}}
	if r.live, err = postgres.Open(ctx, postgres.Config{URL: cfg.DatabaseURL, PoolSize: 2}); err != nil {
		return nil, err
	}
	if r.fresh, err = postgres.Open(ctx, postgres.Config{URL: cfg.DatabaseURL, PoolSize: 2, Schema: schema}); err != nil {
		r.live.Close()
		return nil, err
	}
	r.service = service.New(r.fresh, b, zap.NewNop(), prometheus.NewRegistry())
	if err := r.begin(ctx, cfg.DatabaseURL); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func (r *rebuild) begin(ctx context.Context, url string) error {
	// An earlier run may have died.
	if err := r.drop(ctx); err != nil {
		return err
	}
	r.say("making schema " + r.schema)
	if err := db.Migrate(ctx, url, db.Options{Schema: r.schema}); err != nil {
		return err
	}
	first, last, err := r.live.ArchivedDays(ctx)
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	if first.IsZero() || first.After(now) {
		first = now
	}
	if week := now.AddDate(0, 0, 7); last.Before(week) {
		last = week
	}
	return r.fresh.PrepareDays(ctx, first, last)
}

func (r *rebuild) build(ctx context.Context) error {
	return r.service.Rebuild(ctx, r.live, func(stream string, projected, last uint64) {
		if projected >= last || time.Since(r.said[stream]) > time.Second {
			r.said[stream] = time.Now()
			r.say(fmt.Sprintf("%s: %d of %d", stream, projected, last))
		}
	})
}

func (r *rebuild) drop(ctx context.Context) error {
	return r.live.DropSchema(context.WithoutCancel(ctx), r.schema)
}

func (r *rebuild) close() {
	r.fresh.Close()
	r.live.Close()
}

func (r *rebuild) say(line string) {
	_, _ = fmt.Fprintln(r.progress, line) // whoever listens no more needs no answer
}
