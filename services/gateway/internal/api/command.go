package api

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

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
	id, err := s.commandID(ctx, r, t)
	if err != nil {
		return zero, err
	}
	ctx, cancel := context.WithTimeout(ctx, protocol.CommandPatience)
	defer cancel()
	return bus.SendCommand[T](ctx, s.bus, protocol.Command{
		ID: id, Tenant: t, Verb: verb, Actor: r.who.Actor, RequestID: r.id, At: protocol.At(time.Now()), Data: body,
	})
}

// commandID is a new id, or under an idempotency key always the same one, which catalog answers
// as it did before.
func (s *Server) commandID(ctx context.Context, r *request, t protocol.TenantID) (string, error) {
	if r.idempotency == "" {
		return typeid.New("cmd"), nil
	}
	mine, err := json.Marshal(struct {
		Fingerprint string        `json:"fingerprint"`
		At          protocol.Time `json:"at"`
	}{r.fingerprint, protocol.At(time.Now())})
	if err != nil {
		return "", fmt.Errorf("claim: %w", err)
	}
	kept, _, err := s.bus.Claim(ctx, t, r.idempotency, mine)
	if err != nil {
		return "", err
	}
	var claimed struct {
		Fingerprint string `json:"fingerprint"`
	}
	if err := json.Unmarshal(kept, &claimed); err != nil {
		return "", fmt.Errorf("read claim: %w", err)
	}
	if claimed.Fingerprint != r.fingerprint {
		return "", start.ErrReused
	}
	sum := sha256.Sum256([]byte(string(t) + "\x00" + r.idempotency + "\x00" + r.fingerprint))
	return "cmd_" + hex.EncodeToString(sum[:16]), nil
}
