-- migrate:up

create table audit_log (
  id         text primary key,
  seq        bigint, -- of the catalog event; null for what has none, such as a refused access
  at         timestamptz not null,
  tenant_id  text not null,
  actor      text not null,
  action     text not null,
  kind       text not null,
  target_id  text not null,
  request_id text not null,
  command_id text not null,
  before     jsonb,
  after      jsonb,
  reason     text not null
);

create unique index audit_log_seq on audit_log (seq) where seq is not null;
create index audit_log_list on audit_log (tenant_id, at desc, id desc);
create index audit_log_all on audit_log (at desc, id desc);
create index audit_log_target on audit_log (tenant_id, target_id, at desc, id desc);
create index audit_log_actor on audit_log (tenant_id, actor, at desc, id desc);
create index audit_log_command on audit_log (command_id);

alter table audit_log enable row level security;
alter table audit_log force row level security;
create policy tenant on audit_log using (tenant_id = current_tenant());
create policy platform on audit_log to agentflow_platform using (true);
-- Nobody changes a record; even the platform only adds and, when it rebuilds, clears.
grant select, insert on audit_log to agentflow_tenant;
grant select, insert, delete on audit_log to agentflow_platform;

-- Commands that were refused, so that the same command gets the same refusal. Those that were
-- carried out are known by their event.
create table command_refusals (
  command_id text primary key,
  tenant_id  text not null,
  at         timestamptz not null,
  error      jsonb not null
);

create index command_refusals_at on command_refusals (at);

alter table command_refusals enable row level security;
alter table command_refusals force row level security;
create policy tenant on command_refusals using (tenant_id = current_tenant());
create policy platform on command_refusals to agentflow_platform using (true);
grant select, insert on command_refusals to agentflow_tenant;
grant select, insert, delete on command_refusals to agentflow_platform;

-- migrate:down

drop table command_refusals;
drop table audit_log;
