-- migrate:up

-- Every table here is a projection of the log. So there are no foreign keys between them: the log
-- has settled what may follow what, and a projection that refused an event would only stand still.
create table tenants (
  id         text primary key,
  name       text not null,
  status     text not null check (status in ('active', 'suspended')),
  limits     jsonb,
  version    integer not null,
  created_at timestamptz not null,
  updated_at timestamptz not null,
  revision   integer not null,
  last_seq   bigint not null
);

create index tenants_list on tenants (created_at desc, id desc);
create index tenants_by_status on tenants (status, created_at desc, id desc);

alter table tenants enable row level security;
alter table tenants force row level security;
create policy tenant on tenants using (id = current_tenant());
create policy platform on tenants to agentflow_platform using (true);
grant select, insert, update on tenants to agentflow_tenant;
grant select, insert, update, delete on tenants to agentflow_platform;

-- The tenant is part of every key: whatever id a tenant comes up with, it cannot touch another's row.
create table api_keys (
  id                  text not null,
  tenant_id           text not null,
  name                text not null,
  hash                text not null,
  prefix              text not null,
  scopes              text[] not null,
  status              text not null check (status in ('active', 'revoked')),
  limits              jsonb,
  version             integer not null,
  created_at          timestamptz not null,
  expires_at          timestamptz,
  revoked_at          timestamptz,
  previous_hash       text,
  previous_expires_at timestamptz,
  revision            integer not null,
  last_seq            bigint not null,
  primary key (id, tenant_id)
);

create index api_keys_list on api_keys (tenant_id, created_at desc, id desc);
create index api_keys_hash on api_keys (hash);

alter table api_keys enable row level security;
alter table api_keys force row level security;
create policy tenant on api_keys using (tenant_id = current_tenant());
create policy platform on api_keys to agentflow_platform using (true);
grant select, insert, update on api_keys to agentflow_tenant;
grant select, insert, update, delete on api_keys to agentflow_platform;

-- migrate:down

drop table api_keys;
drop table tenants;
