-- migrate:up

create table executions (
  id                text not null,
  tenant_id         text not null,
  workflow_id       text, -- null for an inline spec
  workflow_version  integer,
  workflow_name     text not null,
  spec_hash         text not null,
  status            text not null check (status in ('PENDING', 'RUNNING', 'COMPLETED', 'FAILED', 'TIMED_OUT', 'CANCELLED')),
  initial_state     jsonb, -- null when it stands in the object store
  initial_state_ref text,
  final_state       jsonb, -- partial when the execution did not complete
  final_state_ref   text,
  error             jsonb,
  error_code        text,
  error_message     text,
  timeout_scope     text,
  timeout_node      text,
  timeout_elapsed_ms bigint,
  tags              text[] not null,
  actor             text not null,
  request_id        text not null,
  rerun_of          text,
  created_at        timestamptz not null,
  started_at        timestamptz,
  completed_at      timestamptz,
  deadline          timestamptz,
  duration_ms       bigint,
  duration_seconds  double precision generated always as (duration_ms / 1000.0::double precision) stored,
  tokens_used       bigint not null,
  cost              numeric not null,
  nodes_run         integer not null,
  nodes             jsonb not null, -- one record per run of a node
  partition         smallint not null,
  first_seq         bigint not null, -- of the oldest commit that an executor still needs
  last_seq          bigint not null,
  primary key (id, tenant_id)
);

create index executions_list on executions (tenant_id, created_at desc, id desc);
create index executions_by_status on executions (status, tenant_id, created_at desc, id desc);
create index executions_by_workflow on executions (workflow_id, created_at desc, id desc) where workflow_id is not null;
create index executions_alive on executions (partition, first_seq) where completed_at is null;
create index executions_ended on executions (completed_at) where completed_at is not null;

alter table executions enable row level security;
alter table executions force row level security;
create policy tenant on executions using (tenant_id = current_tenant());
create policy platform on executions to agentflow_platform using (true);
grant select on executions to agentflow_tenant;
grant select, insert, update, delete on executions to agentflow_platform;

-- A table rather than an index on executions.tags: array operators may leak what they see, so
-- Postgres does not use their indexes underneath a row level policy.
create table execution_tags (
  tenant_id    text not null,
  tag          text not null,
  created_at   timestamptz not null,
  execution_id text not null,
  primary key (tenant_id, tag, created_at, execution_id)
);

create index execution_tags_by_execution on execution_tags (execution_id);

alter table execution_tags enable row level security;
alter table execution_tags force row level security;
create policy tenant on execution_tags using (tenant_id = current_tenant());
create policy platform on execution_tags to agentflow_platform using (true);
grant select on execution_tags to agentflow_tenant;
grant select, insert, update, delete on execution_tags to agentflow_platform;

-- migrate:down

drop table execution_tags;
drop table executions;
