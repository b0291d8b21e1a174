package platform

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/daemon"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

// pollInterval is how closely a start is watched.
const pollInterval = 5 * time.Millisecond

// ready waits until each service has answered and the key opens the door. It asks for work, not for health: a service
// that has not come to registering its checks looks healthy.
func (p *platform) ready(ctx context.Context) (Info, error) {
	ctx, cancel := context.WithTimeout(ctx, readyPatience)
	defer cancel()
	b, err := p.connect(ctx, p.rt, false)
	if err != nil {
		return Info{}, err
	}
	defer b.Close()
	tenant := protocol.TenantID(p.config.gateway.DevTenant)
	if err := p.identity.register(ctx, b, tenant); err != nil {
		return Info{}, err
	}
	p.rt.Mask(p.identity.key.Key)

	for _, step := range []struct {
		what string
		try  func(context.Context) error
	}{
		{"limiter", func(ctx context.Context) error {
			_, err := bus.Request(ctx, b, protocol.LimitUsage, protocol.UsageRequest{Tenant: tenant, Queue: "ready"})
			return unlessAnswered(err)
		}},
		{"catalog", func(ctx context.Context) error {
			_, err := bus.Request(ctx, b, protocol.GetTenant, protocol.GetTenantRequest{Tenant: tenant})
			return unlessAnswered(err)
		}},
		{"executor", func(ctx context.Context) error {
			_, err := bus.Request(ctx, b, protocol.TestSource, protocol.TestSourceRequest{
				Tenant: tenant, Source: workflow.Source{ID: "ready", Kind: "llm", Config: map[string]any{"provider": "echo"}},
			})
			return unlessAnswered(err)
		}},
		{"gateway", p.doorOpen},
		{"health", p.healthy},
	} {
		if err := until(ctx, step.try); err != nil {
			return Info{}, fmt.Errorf("%s is not ready: %w", step.what, err)
		}
	}
	return p.info(), nil
}

// until tries until it succeeds or ctx ends; then the error is that of the last try.
func until(ctx context.Context, try func(context.Context) error) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-ticker.C:
		}
	}
}

// unlessAnswered is nil when a service has answered, be it with a refusal.
func unlessAnswered(err error) error {
	if protocol.CodeOf(err) == protocol.CodeUnavailable || errors.Is(err, bus.ErrUnavailable) {
		return err
	}
	return nil
}

// doorOpen is nil when the gateway knows the key. A suspended tenant is known, too.
func (p *platform) doorOpen(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, clientURL(p.listener)+"/workflows/node-types", http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("X-API-Key", p.identity.key.Key)
	// No proxy: the port is ours. No keep-alive: once is enough.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusForbidden || resp.StatusCode == http.StatusTooManyRequests {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10)) // best effort: the status is the answer
	return fmt.Errorf("it answers %s %s", resp.Status, body)
}

func (p *platform) healthy(ctx context.Context) error {
	report := p.rt.Health.Ready(ctx)
	if report.Status == daemon.StatusReady || report.Status == daemon.StatusDegraded {
		return nil
	}
	for name, check := range report.Checks {
		if check.Required && check.Status != daemon.StatusOK {
			return fmt.Errorf("%s: %s", name, check.Error)
		}
	}
	return errors.New(report.Status)
}
