package platform

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/bus"
	natslocal "github.com/agentflow/agentflow/pkg/bus/local"
	"github.com/agentflow/agentflow/pkg/daemon"
	"github.com/agentflow/agentflow/pkg/local"
	"github.com/agentflow/agentflow/services/catalog"
)

// Stores are the log and the database of a platform, in the hands of a tool for administrators.
type Stores struct {
	DatabaseURL string         // the owner's
	Catalog     catalog.Config // with that URL

	bus   bus.Config
	close []func(context.Context) error // in reverse
}

// OpenStores finds the stores of a platform: in the data folder, if one is named, of the platform that runs on it or,
// when none runs, by starting its private stores; else where DATABASE_URL and NATS_URL say. Close them.
func OpenStores(ctx context.Context, data string, env []string) (*Stores, error) {
	s := &Stores{}
	err := s.open(ctx, data, environ(env))
	if err != nil {
		return nil, errors.Join(err, s.Close(ctx))
	}
	return s, nil
}

func (s *Stores) open(ctx context.Context, data string, env environ) error {
	urls, err := daemon.Load[storeURLs](env)
	if err != nil {
		return err
	}
	s.DatabaseURL = urls.Database
	var note Note
	if data != "" {
		if note, err = s.folder(ctx, data); err != nil {
			return err
		}
		env = env.without(natsVariables...)
	}
	env = env.with("DATABASE_URL", s.DatabaseURL)
	if s.Catalog, err = daemon.Load[catalog.Config](env); err != nil {
		return err
	}
	inProcess := s.bus.InProcess
	s.bus = s.Catalog.Bus
	s.bus.InProcess, s.bus.Name, s.bus.CreateLayout = inProcess, "agentflow", false
	if note.NATSURL != "" {
		s.bus.URL = note.NATSURL
	}
	return nil
}

// folder opens the stores of a data folder; the note is that of the platform that runs on it, if one does.
func (s *Stores) folder(ctx context.Context, data string) (Note, error) {
	lock, err := local.LockDir(data)
	var locked *local.LockedError
	if errors.As(err, &locked) {
		note, _, err := noteOf(data, locked)
		s.DatabaseURL = note.DatabaseURL
		return note, err
	}
	if err != nil {
		return Note{}, err
	}
	s.close = append(s.close, func(context.Context) error { return lock.Unlock() })
	if s.DatabaseURL == "" {
		if !hasPostgres(data) {
			return Note{}, fmt.Errorf("there is no database in %s: name another folder with --data, or set DATABASE_URL", data)
		}
		postgres, err := local.StartPostgres(ctx, privatePostgres(data, zap.NewNop()))
		if err != nil {
			return Note{}, err
		}
		s.close = append(s.close, postgres.Stop)
		s.DatabaseURL = postgres.URL()
	}
	nats, err := natslocal.Start(natslocal.Options{Dir: natsFolder(data)})
	if err != nil {
		return Note{}, err
	}
	s.close = append(s.close, func(context.Context) error {
		nats.Stop()
		return nil
	})
	s.bus.InProcess = nats
	return Note{}, nil
}

// Bus connects to the log.
func (s *Stores) Bus(ctx context.Context) (*bus.Bus, error) { return bus.Connect(ctx, s.bus) }

// Close stops what OpenStores has started.
func (s *Stores) Close(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx) // asked to stop or not
	var errs []error
	for i := len(s.close) - 1; i >= 0; i-- {
		errs = append(errs, s.close[i](ctx))
	}
	s.close = nil
	return errors.Join(errs...)
}
