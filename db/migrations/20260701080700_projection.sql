-- migrate:up

-- How far the tables follow each stream. Moved in the same transaction as the tables.
create table projection_checkpoints (
  stream     text primary key,
  last_seq   bigint not null,
  updated_at timestamptz not null
);

alter table projection_checkpoints enable row level security;
alter table projection_checkpoints force row level security;
create policy platform on projection_checkpoints to agentflow_platform using (true);
grant select, insert, update, delete on projection_checkpoints to agentflow_platform;

-- Counting 100,000 rows for the total of every page would cost more than the page. Rows are
-- spread over shards so that writers of one tenant do not queue behind one row.
create table row_counts (
  tenant_id text not null,
  kind      text not null,
  status    text not null,
  shard     smallint not null,
  n         bigint not null,
  primary key (tenant_id, kind, status, shard)
);

alter table row_counts enable row level security;
alter table row_counts force row level security;
create policy tenant on row_counts using (tenant_id = current_tenant());
create policy platform on row_counts to agentflow_platform using (true);
grant select, insert, update on row_counts to agentflow_tenant;
grant select, insert, update, delete on row_counts to agentflow_platform;

-- migrate:down

drop table row_counts;
drop table projection_checkpoints;
