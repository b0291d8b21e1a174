-- migrate:up

-- Two tenants may choose the same id for a source.
create table sources (
  tenant_id  text not null,
  id         text not null,
  kind       text not null,
  name       text not null,
  config     jsonb not null,
  status     text not null check (status in ('active', 'deleted')),
  version    integer not null,
  created_at timestamptz not null,
  created_by text not null,
  updated_at timestamptz not null,
  updated_by text not null,
  deleted_at timestamptz,
  deleted_by text,
  revision   integer not null,
  last_seq   bigint not null,
  primary key (id, tenant_id)
);

create index sources_list on sources (tenant_id, created_at desc, id desc) where deleted_at is null;
create index sources_by_kind on sources (kind, tenant_id, created_at desc, id desc) where deleted_at is null;

alter table sources enable row level security;
alter table sources force row level security;
create policy tenant on sources using (tenant_id = current_tenant());
create policy platform on sources to agentflow_platform using (true);
grant select, insert, update on sources to agentflow_tenant;
grant select, insert, update, delete on sources to agentflow_platform;

-- migrate:down

drop table sources;
