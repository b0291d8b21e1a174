-- migrate:up

create table workflows (
  id           text not null,
  tenant_id    text not null,
  name         text not null,
  description  text not null,
  status       text not null check (status in ('draft', 'published', 'archived', 'deleted')),
  version      integer not null,
  spec         jsonb not null,
  created_at   timestamptz not null,
  created_by   text not null,
  updated_at   timestamptz not null,
  updated_by   text not null,
  deleted_at   timestamptz,
  deleted_by   text,
  search_text  text not null,   -- name and description, folded for search
  search_grams text[] not null, -- every two characters that stand together in search_text
  revision     integer not null,
  last_seq     bigint not null,
  primary key (id, tenant_id)
);

create index workflows_list on workflows (tenant_id, created_at desc, id desc) where deleted_at is null;
create index workflows_by_status on workflows (status, tenant_id, created_at desc, id desc);
create index workflows_search on workflows using gin (search_grams) where deleted_at is null;

alter table workflows enable row level security;
alter table workflows force row level security;
create policy tenant on workflows using (tenant_id = current_tenant());
create policy platform on workflows to agentflow_platform using (true);
grant select, insert, update on workflows to agentflow_tenant;
grant select, insert, update, delete on workflows to agentflow_platform;

create table workflow_versions (
  workflow_id text not null,
  version     integer not null,
  tenant_id   text not null,
  name        text not null,
  description text not null,
  status      text not null,
  spec        jsonb not null,
  created_at  timestamptz not null,
  created_by  text not null,
  seq         bigint not null,
  primary key (workflow_id, version, tenant_id)
);

alter table workflow_versions enable row level security;
alter table workflow_versions force row level security;
create policy tenant on workflow_versions using (tenant_id = current_tenant());
create policy platform on workflow_versions to agentflow_platform using (true);
grant select, insert, update on workflow_versions to agentflow_tenant;
grant select, insert, update, delete on workflow_versions to agentflow_platform;

-- Who uses what: the kept sources that a workflow, not deleted, names without declaring them.
create table workflow_sources (
  tenant_id   text not null,
  source_id   text not null,
  workflow_id text not null,
  primary key (tenant_id, source_id, workflow_id)
);

create index workflow_sources_by_workflow on workflow_sources (workflow_id);

alter table workflow_sources enable row level security;
alter table workflow_sources force row level security;
create policy tenant on workflow_sources using (tenant_id = current_tenant());
create policy platform on workflow_sources to agentflow_platform using (true);
grant select, insert, delete on workflow_sources to agentflow_tenant;
grant select, insert, update, delete on workflow_sources to agentflow_platform;

-- migrate:down

drop table workflow_sources;
drop table workflow_versions;
drop table workflows;
