package gateway_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/typeid"
)

// catalog stands in for the catalog: documents in memory, events in the real stream.
type catalog struct {
	t   testing.TB
	bus *bus.Bus

	mu        sync.Mutex
	docs      map[string]any // kind/tenant/id
	sequences map[string]uint64
	answered  map[string][]byte // by command id
	order     []string          // commands carried out
	audit     []protocol.RecordAuditRequest
	away      bool // answers UNAVAILABLE
	archive   map[protocol.ExecutionID]protocol.Execution
	asked     int // executions that were asked for
	stop      func()
}

func standInCatalog(t testing.TB, b *bus.Bus) *catalog {
	t.Helper()
	c := &catalog{
		t: t, bus: b, docs: map[string]any{}, sequences: map[string]uint64{}, answered: map[string][]byte{},
		archive: map[protocol.ExecutionID]protocol.Execution{},
	}
	svc, err := b.Serve("catalog", "0.0.0", 16)
	require.NoError(t, err)
	require.NoError(t, bus.Handle(svc, protocol.GetWorkflow, func(_ context.Context, r protocol.GetWorkflowRequest) (protocol.Workflow, error) {
		return find[protocol.Workflow](c, protocol.KindWorkflow, r.Tenant, r.ID)
	}))
	require.NoError(t, bus.Handle(svc, protocol.GetSource, func(_ context.Context, r protocol.GetSourceRequest) (protocol.KeptSource, error) {
		return find[protocol.KeptSource](c, protocol.KindSource, r.Tenant, r.ID)
	}))
	require.NoError(t, bus.Handle(svc, protocol.ListSources, func(_ context.Context, r protocol.ListSourcesRequest) (protocol.List[protocol.KeptSource], error) {
		return list[protocol.KeptSource](c, protocol.KindSource, r.Tenant, r.Page)
	}))
	require.NoError(t, bus.Handle(svc, protocol.ListWorkflows, func(_ context.Context, r protocol.ListWorkflowsRequest) (protocol.List[protocol.Workflow], error) {
		return list[protocol.Workflow](c, protocol.KindWorkflow, r.Tenant, r.Page)
	}))
	require.NoError(t, bus.Handle(svc, protocol.ListKeys, func(_ context.Context, r protocol.ListKeysRequest) (protocol.List[protocol.Key], error) {
		return list[protocol.Key](c, protocol.KindKey, r.Tenant, r.Page)
	}))
	require.NoError(t, bus.Handle(svc, protocol.GetExecution, c.execution))
	require.NoError(t, bus.Handle(svc, protocol.GetExecutionCommits, func(_ context.Context, r protocol.GetExecutionCommitsRequest) (protocol.ExecutionCommits, error) {
		_, err := c.execution(context.Background(), protocol.GetExecutionRequest{Tenant: r.Tenant, ID: r.ID})
		return protocol.ExecutionCommits{}, err
	}))
	require.NoError(t, bus.Handle(svc, protocol.RecordAudit, func(_ context.Context, r protocol.RecordAuditRequest) (protocol.AuditRecord, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.audit = append(c.audit, r)
		return protocol.AuditRecord{ID: "aud", Tenant: r.Tenant, Actor: r.Actor, Reason: r.Reason}, nil
	}))
	require.NoError(t, b.Ping(t.Context())) // now the server knows it, whoever asks
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Commands(ctx, 8, c.handle) }()
	c.stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
		_ = svc.Stop() // the connection may be gone already
	})
	t.Cleanup(c.stop)
	c.put(protocol.KindTenant, "dev", "dev", "tenant_created.v1", protocol.Tenant{ID: "dev", Name: "dev", Status: protocol.StatusActive})
	return c
}

func place(kind protocol.CatalogKind, t protocol.TenantID, id string) string {
	return string(kind) + "/" + string(t) + "/" + id
}

func (c *catalog) unavailable(away bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away = away
}

// find is what catalog answers about one document: another tenant's is forbidden.
func find[T any](c *catalog, kind protocol.CatalogKind, t protocol.TenantID, id string) (T, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var zero T
	if c.away {
		return zero, bus.ErrUnavailable
	}
	if doc, ok := c.docs[place(kind, t, id)].(T); ok {
		return doc, nil
	}
	for at := range c.docs {
		if strings.HasPrefix(at, string(kind)+"/") && strings.HasSuffix(at, "/"+id) {
			return zero, &protocol.Error{Code: protocol.CodeForbidden, Message: "it belongs to another tenant"}
		}
	}
	return zero, &protocol.Error{Code: protocol.CodeNotFound, Message: string(kind) + " " + id + " does not exist"}
}

func list[T any](c *catalog, kind protocol.CatalogKind, t protocol.TenantID, p protocol.Page) (protocol.List[T], error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := protocol.List[T]{Items: []T{}, Skip: p.Skip, Limit: p.Limit}
	for at, doc := range c.docs {
		if v, ok := doc.(T); ok && strings.HasPrefix(at, place(kind, t, "")) {
			l.Items = append(l.Items, v)
		}
	}
	l.Total = int64(len(l.Items))
	return l, nil
}

func (c *catalog) execution(_ context.Context, r protocol.GetExecutionRequest) (protocol.Execution, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	if c.away {
		return protocol.Execution{}, bus.ErrUnavailable
	}
	e, ok := c.archive[r.ID]
	switch {
	case !ok:
		return e, &protocol.Error{Code: protocol.CodeNotFound, Message: "execution " + string(r.ID) + " does not exist"}
	case e.Tenant != r.Tenant:
		return protocol.Execution{}, &protocol.Error{Code: protocol.CodeForbidden, Message: "it belongs to another tenant"}
	}
	return e, nil
}

// put appends an event and keeps the document; nil deletes it.
func (c *catalog) put(kind protocol.CatalogKind, t protocol.TenantID, id, event string, doc any) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.append(kind, t, id, event, doc)
}

func (c *catalog) append(kind protocol.CatalogKind, t protocol.TenantID, id, event string, doc any) {
	body, err := json.Marshal(doc)
	require.NoError(c.t, err)
	at := place(kind, t, id)
	seq, err := c.bus.AppendCatalog(context.Background(), protocol.CatalogEvent{
		Type: event, At: protocol.At(time.Now()), Tenant: t, Kind: kind, ID: id, CommandID: typeid.New("cmd"), Document: body,
	}, c.sequences[at])
	require.NoError(c.t, err)
	c.sequences[at] = seq
	if strings.HasSuffix(event, "_deleted.v1") {
		delete(c.docs, at)
		return
	}
	c.docs[at] = doc
}

func (c *catalog) handle(m *bus.CommandMessage) {
	c.mu.Lock()
	body, again := c.answered[m.ID]
	if !again {
		v, err := c.carryOut(m.Command)
		body, _ = bus.EncodeReply(v, err)
		c.answered[m.ID] = body
		c.order = append(c.order, m.ID)
	}
	c.mu.Unlock()
	_ = m.Done(body)
}

func read[T any](c protocol.Command) T {
	var v T
	_ = json.Unmarshal(c.Data, &v)
	return v
}

func (c *catalog) carryOut(cmd protocol.Command) (any, error) {
	if c.away {
		return nil, bus.ErrUnavailable
	}
	now := protocol.At(time.Now())
	switch cmd.Verb { //nolint:exhaustive // the rest is not asked of a stand-in
	case protocol.VerbTenantCreate:
		t := protocol.Tenant{ID: cmd.Tenant, Name: read[protocol.CreateTenant](cmd).Name, Status: protocol.StatusActive, CreatedAt: now}
		c.append(protocol.KindTenant, t.ID, string(t.ID), "tenant_created.v1", t)
		return t, nil
	case protocol.VerbTenantUpdate:
		t, _ := c.docs[place(protocol.KindTenant, cmd.Tenant, string(cmd.Tenant))].(protocol.Tenant)
		if change := read[protocol.UpdateTenant](cmd); change.Status != nil {
			t.Status = *change.Status
		}
		c.append(protocol.KindTenant, t.ID, string(t.ID), "tenant_updated.v1", t)
		return t, nil
	case protocol.VerbKeyCreate:
		d := read[protocol.CreateKey](cmd)
		k := protocol.Key{
			ID: typeid.New("key"), Tenant: cmd.Tenant, Name: d.Name, Hash: d.Hash, Prefix: d.Prefix, Scopes: d.Scopes,
			Status: protocol.StatusActive, ExpiresAt: d.ExpiresAt, CreatedAt: now, Version: 1,
		}
		if k.Scopes == nil {
			k.Scopes = protocol.TenantScopes()
		}
		c.append(protocol.KindKey, k.Tenant, k.ID, "key_created.v1", k)
		return k, nil
	case protocol.VerbKeyRevoke:
		k, _ := c.docs[place(protocol.KindKey, cmd.Tenant, read[protocol.RevokeKey](cmd).ID)].(protocol.Key)
		k.Status, k.RevokedAt = protocol.StatusRevoked, now
		c.append(protocol.KindKey, k.Tenant, k.ID, "key_revoked.v1", k)
		return k, nil
	case protocol.VerbWorkflowCreate:
		d := read[protocol.CreateWorkflow](cmd)
		w := protocol.Workflow{
			ID: typeid.New("wf"), Tenant: cmd.Tenant, Name: d.Name, Description: d.Description, Status: protocol.WorkflowDraft,
			Version: 1, Spec: d.Spec, CreatedAt: now, CreatedBy: cmd.Actor, UpdatedAt: now, UpdatedBy: cmd.Actor,
		}
		c.append(protocol.KindWorkflow, w.Tenant, w.ID, "workflow_created.v1", w)
		return w, nil
	case protocol.VerbWorkflowUpdate:
		d := read[protocol.UpdateWorkflow](cmd)
		w, ok := c.docs[place(protocol.KindWorkflow, cmd.Tenant, d.ID)].(protocol.Workflow)
		switch {
		case !ok:
			return nil, &protocol.Error{Code: protocol.CodeNotFound, Message: "workflow " + d.ID + " does not exist"}
		case d.IfMatch != 0 && d.IfMatch != w.Version:
			return nil, &protocol.Error{Code: protocol.CodeVersionMismatch, Message: "the workflow has another version", Field: "header.If-Match"}
		}
		if d.Name != nil {
			w.Name = *d.Name
		}
		if d.Spec != nil {
			w.Spec = d.Spec
		}
		if d.Status != nil {
			w.Status = *d.Status
		}
		w.Version++
		c.append(protocol.KindWorkflow, w.Tenant, w.ID, "workflow_updated.v1", w)
		return w, nil
	case protocol.VerbSourceCreate:
		d := read[protocol.CreateSource](cmd)
		k := protocol.KeptSource{Source: d.Source, Name: d.Name, Tenant: cmd.Tenant, Version: 1, Status: protocol.SourceActive, CreatedAt: now}
		if old, ok := c.docs[place(protocol.KindSource, cmd.Tenant, k.ID)].(protocol.KeptSource); ok {
			if !d.Replace {
				return nil, &protocol.Error{Code: protocol.CodeConflict, Message: "source " + k.ID + " exists"}
			}
			k.Version = old.Version + 1
		}
		c.append(protocol.KindSource, k.Tenant, k.ID, "source_created.v1", k)
		return k, nil
	case protocol.VerbSourceDelete:
		id := read[protocol.DeleteSource](cmd).ID
		k, ok := c.docs[place(protocol.KindSource, cmd.Tenant, id)].(protocol.KeptSource)
		if !ok {
			return nil, &protocol.Error{Code: protocol.CodeNotFound, Message: "source " + id + " does not exist"}
		}
		k.Status = protocol.SourceDeleted
		c.append(protocol.KindSource, k.Tenant, k.ID, "source_deleted.v1", k)
		return k, nil
	}
	return nil, &protocol.Error{Code: protocol.CodeInternal, Message: "the stand-in does not know " + string(cmd.Verb)}
}
