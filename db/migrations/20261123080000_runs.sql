-- migrate:up

-- The runs of nodes in short: what is usual is left out. Rows from before have them in nodes, and keep them there until
-- they are written again. See docs/adr/0010-what-an-execution-takes-in-postgres.md.
alter table executions add column runs text;
alter table executions alter column nodes drop not null;

-- migrate:down

-- The owner is bound by the policies, too.
set local role agentflow_platform;
update executions x set nodes = coalesce((
  select jsonb_agg(jsonb_strip_nulls(jsonb_build_object(
      'node', r->'n', 'iteration', coalesce(r->'i', '0'), 'status', coalesce(r->>'s', 'COMPLETED'), 'attempt', coalesce((r->>'a')::int, 0) + 1,
      'duration_ms', coalesce(r->'d', r->'e', '0'), 'tokens_used', coalesce(r->'t', '0'), 'cost', coalesce((r->>'c')::numeric, 0),
      'intent', r->'in', 'error', r->'err', 'handled', r->'h', 'queue', r->'q', 'limiting_metric', r->'m',
      'retry_at', x.created_at + (r->>'r')::bigint * interval '1 ms',
      'started_at', x.created_at + (r->>'b')::bigint * interval '1 ms',
      'completed_at', x.created_at + (coalesce((r->>'b')::bigint, 0) + (r->>'e')::bigint) * interval '1 ms')) order by n)
  from jsonb_array_elements(x.runs::jsonb) with ordinality as runs (r, n)), '[]')
where nodes is null;
reset role;
alter table executions alter column nodes set not null;
alter table executions drop column runs;
