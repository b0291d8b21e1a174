package service

import (
	"context"
	"fmt"

	"github.com/agentflow/agentflow/pkg/protocol"
)

func createTenant(_ context.Context, _ *Service, r *room) (*decision, error) {
	in, err := data[protocol.CreateTenant](r.cmd)
	if err != nil {
		return nil, err
	}
	if r.exists() {
		return nil, refuse(protocol.CodeConflict, "id", fmt.Sprintf("tenant %q exists already", r.cmd.Tenant))
	}
	if in.Name == "" {
		in.Name = string(r.cmd.Tenant)
	}
	if err := firstError(checkName(in.Name), checkLimits(in.Limits)); err != nil {
		return nil, err
	}
	return &decision{"tenant_created.v1", protocol.Tenant{
		ID: r.cmd.Tenant, Name: in.Name, Status: protocol.StatusActive, Limits: in.Limits, Version: 1, CreatedAt: r.at, UpdatedAt: r.at,
	}}, nil
}

func updateTenant(ctx context.Context, s *Service, r *room) (*decision, error) {
	in, err := data[protocol.UpdateTenant](r.cmd)
	if err != nil {
		return nil, err
	}
	t, err := document[protocol.Tenant](ctx, s, r)
	if err != nil {
		return nil, err
	}
	if err := checkVersion(in.IfMatch, t.Version); err != nil {
		return nil, err
	}
	event, changed := "tenant_updated.v1", false
	if in.Name != nil && *in.Name != t.Name {
		t.Name, changed = *in.Name, true
		if err := checkName(t.Name); err != nil {
			return nil, err
		}
	}
	if in.Limits != nil {
		if err := checkLimits(in.Limits); err != nil {
			return nil, err
		}
		t.Limits, changed = in.Limits, true
	}
	if in.Status != nil && *in.Status != t.Status {
		switch *in.Status {
		case protocol.StatusSuspended:
			event = "tenant_suspended.v1"
		case protocol.StatusActive:
			event = "tenant_resumed.v1"
		default:
			return nil, refuse(protocol.CodeInvalid, "status", "status must be active or suspended")
		}
		t.Status, changed = *in.Status, true
	}
	if !changed {
		return nil, nil //nolint:nilnil // nothing to do
	}
	t.Version++
	t.UpdatedAt = r.at
	return &decision{event, t}, nil
}
