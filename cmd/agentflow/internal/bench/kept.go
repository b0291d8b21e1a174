package bench

import (
	"context"
	"fmt"
	"net/http"
)

// keptWorkflows is how many workflows stand in the tables when list begins.
const keptWorkflows = 100_000

// store stores workflows, one after the other.
func store(t *target, client int) (sender, error) {
	c := &crudClient{target: t, client: client, spec: threeStep(t).workflow, create: t.api.request(http.MethodPost, "/workflows", []byte{})}
	return func(context.Context) outcome {
		o := c.storeOne()
		if o.fault == "" {
			t.keep(c.id)
		}
		return o
	}, nil
}

// keep remembers a workflow that is to be deleted in the end.
func (t *target) keep(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.made = append(t.made, id)
}

// read reads one workflow over and over.
func read(t *target, client int) (sender, error) {
	id, err := t.create(fmt.Sprintf("bench %s read %d", t.run, client), threeStep(t).workflow)
	if err != nil {
		return nil, err
	}
	t.keep(id)
	get, want := t.api.request(http.MethodGet, "/workflows/"+id, nil), []byte(id)
	return func(context.Context) outcome { return outcome{"get", get.send(http.StatusOK, want)} }, nil
}

// list reads the first pages of 50 workflows, in turn.
func list(t *target, client int) (sender, error) {
	const size, pages = 50, 20
	r, want := t.api.request(http.MethodGet, "/workflows", nil), []byte(`"has_more"`)
	turn := max(0, client)
	return func(context.Context) outcome {
		turn++
		r.path(fmt.Sprintf("/workflows?limit=%d&skip=%d", size, turn%pages*size))
		return outcome{"list", r.send(http.StatusOK, want)}
	}, nil
}

// lay puts workflows straight into the tables of a platform of our own: through the API they would take minutes. Nothing
// but lists knows of them.
func (s *stores) lay(ctx context.Context, tenant string, n int64) error {
	for _, statement := range []string{
		`insert into agentflow.workflows (id, tenant_id, name, description, status, version, spec, created_at, created_by, updated_at, updated_by,
			search_text, search_grams, revision, last_seq)
		 select 'wf_' || lpad(i::text, 26, '0'), $1, 'workflow ' || i, 'laid down by bench', 'published', 1, $3, now() - i * interval '1 second', 'bench', now(), 'bench',
			'workflow ' || i, '{}', 1, 1 from generate_series(1, $2::bigint) i on conflict do nothing`,
		`insert into agentflow.row_counts as c (tenant_id, kind, status, shard, n) select $1, 'workflow', 'published', 0, $2::bigint where $3::jsonb is not null
		 on conflict (tenant_id, kind, status, shard) do update set n = c.n + excluded.n`,
	} {
		if _, err := s.db.Exec(ctx, statement, tenant, n, fmt.Sprintf(threeStepWorkflow, "")); err != nil {
			return fmt.Errorf("lay down workflows: %w", err)
		}
	}
	_, err := s.db.Exec(ctx, "analyze agentflow.workflows")
	return err
}

// prepare is what a run needs beside its senders.
func (b *bencher) prepare(ctx context.Context, w Workload, in *inside) error {
	if !w.kept || in == nil || b.laid {
		return nil // elsewhere the list is what is there
	}
	n := int64(keptWorkflows)
	if b.Kept > 0 {
		n = b.Kept
	}
	b.progress.say(fmt.Sprintf("laying down %s workflows", whole(n)))
	b.laid = true
	return in.stores.lay(ctx, string(in.child.Tenant), n)
}
