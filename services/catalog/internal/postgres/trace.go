package postgres

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// slowQuery is the duration from which a query is worth a warning.
const slowQuery = 100 * time.Millisecond

type (
	tenantKey struct{}
	startKey  struct{}
)

func withTenant(ctx context.Context, t protocol.TenantID) context.Context {
	return context.WithValue(ctx, tenantKey{}, t)
}

type started struct {
	at    time.Time
	sql   string
	count int // queries of a batch
	err   error
}

// tracer logs every query with its tenant and duration, and never its arguments: they are the
// tenant's data.
type tracer struct{ log *zap.Logger }

var (
	_ pgx.QueryTracer       = (*tracer)(nil)
	_ pgx.BatchTracer       = (*tracer)(nil)
	_ pgx.ConnectTracer     = (*tracer)(nil)
	_ pgxpool.AcquireTracer = (*tracer)(nil)
)

func (t *tracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	return context.WithValue(ctx, startKey{}, &started{at: time.Now(), sql: q.SQL})
}

func (t *tracer) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryEndData) {
	t.end(ctx, q.Err, q.CommandTag.RowsAffected())
}

func (t *tracer) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return context.WithValue(ctx, startKey{}, &started{at: time.Now()})
}

// TraceBatchQuery hears of the queries of a batch as their results are read. The first statement
// of a read is the change of identity; what follows is the reason for it.
func (t *tracer) TraceBatchQuery(ctx context.Context, _ *pgx.Conn, q pgx.TraceBatchQueryData) {
	s, ok := ctx.Value(startKey{}).(*started)
	if !ok {
		return
	}
	s.count++
	if s.count <= 2 {
		s.sql = q.SQL
	}
	if q.Err != nil && s.err == nil {
		s.sql, s.err = q.SQL, q.Err
	}
}

func (t *tracer) TraceBatchEnd(ctx context.Context, _ *pgx.Conn, q pgx.TraceBatchEndData) {
	t.end(ctx, q.Err, -1)
}

func (t *tracer) end(ctx context.Context, err error, rows int64) {
	s, ok := ctx.Value(startKey{}).(*started)
	if !ok {
		return
	}
	if err == nil {
		err = s.err
	}
	took := time.Since(s.at)
	level := zapcore.DebugLevel
	message := "query"
	if took > slowQuery {
		level, message = zapcore.WarnLevel, "slow query"
	}
	entry := t.log.Check(level, message)
	if entry == nil {
		return
	}
	tenant, _ := ctx.Value(tenantKey{}).(protocol.TenantID)
	fields := []zap.Field{
		zap.String("sql", strings.Join(strings.Fields(s.sql), " ")), zap.String("tenant", string(tenant)), zap.Duration("took", took),
	}
	if rows >= 0 {
		fields = append(fields, zap.Int64("rows", rows))
	}
	if s.count > 0 {
		fields = append(fields, zap.Int("statements", s.count))
	}
	if err != nil {
		fields = append(fields, zap.Error(err))
	}
	entry.Write(fields...)
}

func (t *tracer) TraceConnectStart(ctx context.Context, _ pgx.TraceConnectStartData) context.Context {
	return ctx
}

func (t *tracer) TraceConnectEnd(_ context.Context, c pgx.TraceConnectEndData) {
	if c.Err != nil {
		t.log.Warn("postgres connection refused", zap.Error(c.Err))
	}
}

func (t *tracer) TraceAcquireStart(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireStartData) context.Context {
	return context.WithValue(ctx, startKey{}, &started{at: time.Now()})
}

func (t *tracer) TraceAcquireEnd(ctx context.Context, _ *pgxpool.Pool, _ pgxpool.TraceAcquireEndData) {
	if s, ok := ctx.Value(startKey{}).(*started); ok {
		if waited := time.Since(s.at); waited > slowQuery {
			t.log.Warn("slow wait for a postgres connection", zap.Duration("took", waited))
		}
	}
}
