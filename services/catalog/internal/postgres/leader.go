package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// leadership is the advisory lock of the one process that projects and trims.
const leadership = 0x41464c45 // "AFLE"

// heartbeat is how often a leader looks whether it still is one.
const heartbeat = time.Second

// Lead runs fn while this process holds the leadership of its schema, and returns when ctx ends.
// The context of fn ends when the connection that holds the lock is lost. There may be two leaders
// for a moment then; the checkpoints see to it that only one of them writes.
func (s *Store) Lead(ctx context.Context, retry time.Duration, fn func(ctx context.Context)) {
	for ctx.Err() == nil {
		if err := s.lead(ctx, fn); err != nil && ctx.Err() == nil {
			s.log.Debug("not leading: " + err.Error())
		}
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
	}
}

func (s *Store) lead(ctx context.Context, fn func(ctx context.Context)) error {
	pooled, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	var mine bool
	const sql = "select pg_try_advisory_lock($1, hashtext($2))"
	if err := pooled.QueryRow(ctx, sql, leadership, s.schema).Scan(&mine); err != nil || !mine {
		// Should the lock have been given although no answer came, it must not stay in the pool.
		if err != nil {
			s.closeSoon(ctx, pooled.Hijack())
			return fault("lead", err)
		}
		pooled.Release()
		return nil
	}
	// Out of the pool: a lock must not wander into other hands with its connection.
	conn := pooled.Hijack()
	defer s.closeSoon(ctx, conn)
	s.log.Info("this process projects the log")
	leading, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		defer cancel()
		done <- beat(leading, conn)
	}()
	fn(leading)
	cancel()
	err = <-done
	s.log.Info("this process projects no more")
	return err
}

// closeSoon closes a connection, and with it gives back whatever it locks.
func (s *Store) closeSoon(ctx context.Context, conn *pgx.Conn) {
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), heartbeat)
	defer cancel()
	if err := conn.Close(closing); err != nil {
		s.log.Debug("postgres connection not closed in order: " + err.Error())
	}
}

// beat asks the connection for a sign of life until ctx ends.
func beat(ctx context.Context, conn *pgx.Conn) error {
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		ping, cancel := context.WithTimeout(ctx, 5*heartbeat)
		err := conn.Ping(ping)
		cancel()
		if err != nil {
			if ctx.Err() != nil {
				return nil // the end of leading interrupted the ping
			}
			return fault("lead", err)
		}
	}
}
