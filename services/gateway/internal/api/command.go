package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/typeid"
	"github.com/agentflow/agentflow/services/gateway/internal/start"
)

// callWait bounds a question to another service.
const callWait = 10 * time.Second

// ask makes a call on behalf of a request that reads. What such a request says beside its address stands in its query,
// and so does the field that a refusal names.
func ask[Req, Resp any](ctx context.Context, s *Server, call protocol.Call[Req, Resp], req Req) (Resp, error) {
	ctx, cancel := context.WithTimeout(ctx, callWait)
	defer cancel()
	resp, err := bus.Request(ctx, s.bus, call, req)
	var refused *protocol.Error
	if errors.As(err, &refused) && refused.Field != "" {
		inQuery := *refused
		inQuery.Field = "query." + refused.Field
		return resp, &inQuery
	}
	return resp, err
}

// command sends a write to catalog and waits for its answer, as long as catalog would still carry
// it out: a client that was told to try again must not find both done.
func command[T any](ctx context.Context, s *Server, r *request, t protocol.TenantID, verb protocol.Verb, data any) (T, error) {
	var zero T
	body, err := json.Marshal(data)
	if err != nil {
		return zero, fmt.Errorf("encode %s: %w", verb, err)
	}
	once, err := s.commandOf(ctx, r, t)
	if err != nil {
		return zero, err
	}
	patient, cancel := context.WithTimeout(ctx, protocol.CommandPatience)
	defer cancel()
	answer, err := bus.SendCommand[T](patient, s.bus, protocol.Command{
		ID: once.id, Tenant: t, Verb: verb, Actor: r.who.Actor, RequestID: r.id, At: once.at, Data: body,
	})
	var refused *protocol.Error
	if once.claim != nil && !r.replayed && errors.As(err, &refused) && refused.Code != protocol.CodeUnavailable && refused.Code != protocol.CodeInternal {
		// Nothing has happened, so the key is free for what the client makes of the refusal. A repetition may be refused
		// although the first was carried out: the secret of a key is not shown twice.
		if err := s.bus.Unclaim(ctx, t, r.idempotency, once.claim); err != nil {
			s.rt.Logger(ctx).Warn("idempotency key of a refused request not given back", zap.Error(err))
		}
	}
	return answer, err
}

// onceOnly is what makes a command the same one when its request is repeated. Catalog knows it again by its id, and
// derives the id of what it makes from that and the time.
type onceOnly struct {
	id    string
	at    protocol.Time
	claim []byte // of the idempotency key; nil without one
}

// commandOf names a new command, or under an idempotency key always the same one, which catalog answers
// as it did before.
func (s *Server) commandOf(ctx context.Context, r *request, t protocol.TenantID) (onceOnly, error) {
	now := protocol.At(time.Now())
	if r.idempotency == "" {
		return onceOnly{id: typeid.New("cmd"), at: now}, nil
	}
	type claim struct {
		Fingerprint string        `json:"fingerprint"`
		At          protocol.Time `json:"at"`
	}
	mine, err := json.Marshal(claim{r.fingerprint, now})
	if err != nil {
		return onceOnly{}, fmt.Errorf("claim: %w", err)
	}
	kept, won, err := s.bus.Claim(ctx, t, r.idempotency, mine)
	if err != nil {
		return onceOnly{}, err
	}
	var first claim
	if err := json.Unmarshal(kept, &first); err != nil {
		return onceOnly{}, fmt.Errorf("read claim: %w", err)
	}
	if first.Fingerprint != r.fingerprint {
		return onceOnly{}, start.ErrReused
	}
	r.replayed = !won
	sum := sha256.Sum256([]byte(string(t) + "\x00" + r.idempotency + "\x00" + first.Fingerprint + "\x00" + first.At.String()))
	return onceOnly{id: "cmd_" + hex.EncodeToString(sum[:16]), at: first.At, claim: kept}, nil
}
