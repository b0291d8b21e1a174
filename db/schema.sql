-- What the migrations give. Written by a test; do not edit.

create table api_keys (
    id text not null,
    tenant_id text not null,
    name text not null,
    hash text not null,
    prefix text not null,
    scopes text[] not null,
    status text not null,
    limits jsonb,
    version integer not null,
    created_at timestamp with time zone not null,
    expires_at timestamp with time zone,
    revoked_at timestamp with time zone,
    previous_hash text,
    previous_expires_at timestamp with time zone,
    revision integer not null,
    last_seq bigint not null,
    constraint api_keys_pkey PRIMARY KEY (id, tenant_id),
    constraint api_keys_status_check CHECK ((status = ANY (ARRAY['active'::text, 'revoked'::text])))
);
CREATE INDEX api_keys_hash ON agentflow.api_keys USING btree (hash);
CREATE INDEX api_keys_list ON agentflow.api_keys USING btree (tenant_id, created_at DESC, id DESC);
alter table api_keys enable row level security;
alter table api_keys force row level security;
create policy platform on api_keys to agentflow_platform using (true);
create policy tenant on api_keys to public using ((tenant_id = current_tenant()));
grant delete, insert, select, update on api_keys to agentflow_platform;
grant insert, select, update on api_keys to agentflow_tenant;

create table audit_log (
    id text not null,
    seq bigint,
    at timestamp with time zone not null,
    tenant_id text not null,
    actor text not null,
    action text not null,
    kind text not null,
    target_id text not null,
    request_id text not null,
    command_id text not null,
    before jsonb,
    after jsonb,
    reason text not null,
    constraint audit_log_pkey PRIMARY KEY (id)
);
CREATE INDEX audit_log_actor ON agentflow.audit_log USING btree (tenant_id, actor, at DESC, id DESC);
CREATE INDEX audit_log_all ON agentflow.audit_log USING btree (at DESC, id DESC);
CREATE INDEX audit_log_command ON agentflow.audit_log USING btree (command_id);
CREATE INDEX audit_log_list ON agentflow.audit_log USING btree (tenant_id, at DESC, id DESC);
CREATE UNIQUE INDEX audit_log_seq ON agentflow.audit_log USING btree (seq) WHERE (seq IS NOT NULL);
CREATE INDEX audit_log_target ON agentflow.audit_log USING btree (tenant_id, target_id, at DESC, id DESC);
alter table audit_log enable row level security;
alter table audit_log force row level security;
create policy platform on audit_log to agentflow_platform using (true);
create policy tenant on audit_log to public using ((tenant_id = current_tenant()));
grant delete, insert, select on audit_log to agentflow_platform;
grant insert, select on audit_log to agentflow_tenant;

create table command_refusals (
    command_id text not null,
    tenant_id text not null,
    at timestamp with time zone not null,
    error jsonb not null,
    constraint command_refusals_pkey PRIMARY KEY (command_id)
);
CREATE INDEX command_refusals_at ON agentflow.command_refusals USING btree (at);
alter table command_refusals enable row level security;
alter table command_refusals force row level security;
create policy platform on command_refusals to agentflow_platform using (true);
create policy tenant on command_refusals to public using ((tenant_id = current_tenant()));
grant delete, insert, select on command_refusals to agentflow_platform;
grant insert, select on command_refusals to agentflow_tenant;

create table execution_events (
    partition smallint not null,
    seq bigint not null,
    tenant_id text not null,
    execution_id text not null,
    previous bigint not null,
    commit_id text not null,
    stored_at timestamp with time zone not null,
    body bytea not null,
    constraint execution_events_pkey PRIMARY KEY (partition, seq, stored_at)
) partition by RANGE (stored_at);
CREATE INDEX execution_events_by_execution ON ONLY agentflow.execution_events USING btree (execution_id, seq);
alter table execution_events enable row level security;
alter table execution_events force row level security;
create policy platform on execution_events to agentflow_platform using (true);
create policy tenant on execution_events to public using ((tenant_id = current_tenant()));
grant delete, insert, select, update on execution_events to agentflow_platform;
grant select on execution_events to agentflow_tenant;

create table execution_events_default (
    partition smallint not null,
    seq bigint not null,
    tenant_id text not null,
    execution_id text not null,
    previous bigint not null,
    commit_id text not null,
    stored_at timestamp with time zone not null,
    body bytea not null,
    constraint execution_events_default_pkey PRIMARY KEY (partition, seq, stored_at)
) partition of execution_events DEFAULT;
CREATE INDEX execution_events_default_execution_id_seq_idx ON agentflow.execution_events_default USING btree (execution_id, seq);
alter table execution_events_default enable row level security;
alter table execution_events_default force row level security;
create policy platform on execution_events_default to agentflow_platform using (true);
create policy tenant on execution_events_default to public using ((tenant_id = current_tenant()));

create table execution_tags (
    tenant_id text not null,
    tag text not null,
    created_at timestamp with time zone not null,
    execution_id text not null,
    constraint execution_tags_pkey PRIMARY KEY (tenant_id, tag, created_at, execution_id)
);
CREATE INDEX execution_tags_by_execution ON agentflow.execution_tags USING btree (execution_id);
alter table execution_tags enable row level security;
alter table execution_tags force row level security;
create policy platform on execution_tags to agentflow_platform using (true);
create policy tenant on execution_tags to public using ((tenant_id = current_tenant()));
grant delete, insert, select, update on execution_tags to agentflow_platform;
grant select on execution_tags to agentflow_tenant;

create table executions (
    id text not null,
    tenant_id text not null,
    workflow_id text,
    workflow_version integer,
    workflow_name text not null,
    spec_hash text not null,
    status text not null,
    initial_state jsonb,
    initial_state_ref text,
    final_state jsonb,
    final_state_ref text,
    error jsonb,
    error_code text,
    error_message text,
    timeout_scope text,
    timeout_node text,
    timeout_elapsed_ms bigint,
    tags text[] not null,
    actor text not null,
    request_id text not null,
    rerun_of text,
    created_at timestamp with time zone not null,
    started_at timestamp with time zone,
    completed_at timestamp with time zone,
    deadline timestamp with time zone,
    duration_ms bigint,
    duration_seconds double precision generated always as (((duration_ms)::double precision / (1000.0)::double precision)) stored,
    tokens_used bigint not null,
    cost numeric not null,
    nodes_run integer not null,
    nodes jsonb,
    partition smallint not null,
    first_seq bigint not null,
    last_seq bigint not null,
    runs text,
    constraint executions_pkey PRIMARY KEY (id, tenant_id),
    constraint executions_status_check CHECK ((status = ANY (ARRAY['PENDING'::text, 'RUNNING'::text, 'COMPLETED'::text, 'FAILED'::text, 'TIMED_OUT'::text, 'CANCELLED'::text])))
);
CREATE INDEX executions_alive ON agentflow.executions USING btree (partition, first_seq) WHERE (completed_at IS NULL);
CREATE INDEX executions_by_status ON agentflow.executions USING btree (status, tenant_id, created_at DESC, id DESC);
CREATE INDEX executions_by_workflow ON agentflow.executions USING btree (workflow_id, created_at DESC, id DESC) WHERE (workflow_id IS NOT NULL);
CREATE INDEX executions_ended ON agentflow.executions USING btree (completed_at) WHERE (completed_at IS NOT NULL);
CREATE INDEX executions_list ON agentflow.executions USING btree (tenant_id, created_at DESC, id DESC);
alter table executions enable row level security;
alter table executions force row level security;
create policy platform on executions to agentflow_platform using (true);
create policy tenant on executions to public using ((tenant_id = current_tenant()));
grant delete, insert, select, update on executions to agentflow_platform;
grant select on executions to agentflow_tenant;

create table projection_checkpoints (
    stream text not null,
    last_seq bigint not null,
    updated_at timestamp with time zone not null,
    constraint projection_checkpoints_pkey PRIMARY KEY (stream)
);
alter table projection_checkpoints enable row level security;
alter table projection_checkpoints force row level security;
create policy platform on projection_checkpoints to agentflow_platform using (true);
grant delete, insert, select, update on projection_checkpoints to agentflow_platform;

create table row_counts (
    tenant_id text not null,
    kind text not null,
    status text not null,
    shard smallint not null,
    n bigint not null,
    constraint row_counts_pkey PRIMARY KEY (tenant_id, kind, status, shard)
);
alter table row_counts enable row level security;
alter table row_counts force row level security;
create policy platform on row_counts to agentflow_platform using (true);
create policy tenant on row_counts to public using ((tenant_id = current_tenant()));
grant delete, insert, select, update on row_counts to agentflow_platform;
grant insert, select, update on row_counts to agentflow_tenant;

create table schema_migrations (
    version character varying not null,
    constraint schema_migrations_pkey PRIMARY KEY (version)
);

create table sources (
    tenant_id text not null,
    id text not null,
    kind text not null,
    name text not null,
    config jsonb not null,
    status text not null,
    version integer not null,
    created_at timestamp with time zone not null,
    created_by text not null,
    updated_at timestamp with time zone not null,
    updated_by text not null,
    deleted_at timestamp with time zone,
    deleted_by text,
    revision integer not null,
    last_seq bigint not null,
    constraint sources_pkey PRIMARY KEY (id, tenant_id),
    constraint sources_status_check CHECK ((status = ANY (ARRAY['active'::text, 'deleted'::text])))
);
CREATE INDEX sources_by_kind ON agentflow.sources USING btree (kind, tenant_id, created_at DESC, id DESC) WHERE (deleted_at IS NULL);
CREATE INDEX sources_list ON agentflow.sources USING btree (tenant_id, created_at DESC, id DESC) WHERE (deleted_at IS NULL);
alter table sources enable row level security;
alter table sources force row level security;
create policy platform on sources to agentflow_platform using (true);
create policy tenant on sources to public using ((tenant_id = current_tenant()));
grant delete, insert, select, update on sources to agentflow_platform;
grant insert, select, update on sources to agentflow_tenant;

create table tenants (
    id text not null,
    name text not null,
    status text not null,
    limits jsonb,
    version integer not null,
    created_at timestamp with time zone not null,
    updated_at timestamp with time zone not null,
    revision integer not null,
    last_seq bigint not null,
    constraint tenants_pkey PRIMARY KEY (id),
    constraint tenants_status_check CHECK ((status = ANY (ARRAY['active'::text, 'suspended'::text])))
);
CREATE INDEX tenants_by_status ON agentflow.tenants USING btree (status, created_at DESC, id DESC);
CREATE INDEX tenants_list ON agentflow.tenants USING btree (created_at DESC, id DESC);
alter table tenants enable row level security;
alter table tenants force row level security;
create policy platform on tenants to agentflow_platform using (true);
create policy tenant on tenants to public using ((id = current_tenant()));
grant delete, insert, select, update on tenants to agentflow_platform;
grant insert, select, update on tenants to agentflow_tenant;

create table workflow_sources (
    tenant_id text not null,
    source_id text not null,
    workflow_id text not null,
    constraint workflow_sources_pkey PRIMARY KEY (tenant_id, source_id, workflow_id)
);
CREATE INDEX workflow_sources_by_workflow ON agentflow.workflow_sources USING btree (workflow_id);
alter table workflow_sources enable row level security;
alter table workflow_sources force row level security;
create policy platform on workflow_sources to agentflow_platform using (true);
create policy tenant on workflow_sources to public using ((tenant_id = current_tenant()));
grant delete, insert, select, update on workflow_sources to agentflow_platform;
grant delete, insert, select on workflow_sources to agentflow_tenant;

create table workflow_versions (
    workflow_id text not null,
    version integer not null,
    tenant_id text not null,
    name text not null,
    description text not null,
    status text not null,
    spec jsonb not null,
    created_at timestamp with time zone not null,
    created_by text not null,
    seq bigint not null,
    constraint workflow_versions_pkey PRIMARY KEY (workflow_id, version, tenant_id)
);
alter table workflow_versions enable row level security;
alter table workflow_versions force row level security;
create policy platform on workflow_versions to agentflow_platform using (true);
create policy tenant on workflow_versions to public using ((tenant_id = current_tenant()));
grant delete, insert, select, update on workflow_versions to agentflow_platform;
grant insert, select, update on workflow_versions to agentflow_tenant;

create table workflows (
    id text not null,
    tenant_id text not null,
    name text not null,
    description text not null,
    status text not null,
    version integer not null,
    spec jsonb not null,
    created_at timestamp with time zone not null,
    created_by text not null,
    updated_at timestamp with time zone not null,
    updated_by text not null,
    deleted_at timestamp with time zone,
    deleted_by text,
    search_text text not null,
    search_grams text[] not null,
    revision integer not null,
    last_seq bigint not null,
    constraint workflows_pkey PRIMARY KEY (id, tenant_id),
    constraint workflows_status_check CHECK ((status = ANY (ARRAY['draft'::text, 'published'::text, 'archived'::text, 'deleted'::text])))
);
CREATE INDEX workflows_by_status ON agentflow.workflows USING btree (status, tenant_id, created_at DESC, id DESC);
CREATE INDEX workflows_list ON agentflow.workflows USING btree (tenant_id, created_at DESC, id DESC) WHERE (deleted_at IS NULL);
CREATE INDEX workflows_search ON agentflow.workflows USING gin (search_grams) WHERE (deleted_at IS NULL);
alter table workflows enable row level security;
alter table workflows force row level security;
create policy platform on workflows to agentflow_platform using (true);
create policy tenant on workflows to public using ((tenant_id = current_tenant()));
grant delete, insert, select, update on workflows to agentflow_platform;
grant insert, select, update on workflows to agentflow_tenant;

CREATE OR REPLACE FUNCTION agentflow.create_event_partitions(first date, last date)
 RETURNS integer
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'agentflow', 'pg_temp'
 SET lock_timeout TO '2s'
AS $function$
declare
  day  date := first;
  made integer := 0;
  name text;
begin
  while day <= last loop
    name := 'execution_events_' || to_char(day, 'YYYYMMDD');
    if to_regclass(name) is null then
      begin
        execute format('create table %I partition of execution_events for values from (%L) to (%L)',
          name, day::timestamp at time zone 'UTC', (day + 1)::timestamp at time zone 'UTC');
        execute format('alter table %I enable row level security', name);
        execute format('alter table %I force row level security', name);
        execute format('create policy tenant on %I using (tenant_id = current_tenant())', name);
        execute format('create policy platform on %I to agentflow_platform using (true)', name);
        made := made + 1;
      exception
        when check_violation then null;  -- the default partition has rows of that day
        when duplicate_table then null;  -- another instance was faster
      end;
    end if;
    day := day + 1;
  end loop;
  return made;
end $function$
-- execute: agentflow_platform

CREATE OR REPLACE FUNCTION agentflow.current_tenant()
 RETURNS text
 LANGUAGE sql
 STABLE
AS $function$
  select current_setting(case when current_setting('app.tenant_id') = '' then 'app.tenant_id is not set' else 'app.tenant_id' end)
$function$
-- execute: public

CREATE OR REPLACE FUNCTION agentflow.drop_event_partition(day date)
 RETURNS boolean
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'agentflow', 'pg_temp'
 SET lock_timeout TO '2s'
AS $function$
declare
  name text := 'execution_events_' || to_char(day, 'YYYYMMDD');
begin
  if to_regclass(name) is null then
    return false;
  end if;
  execute format('drop table %I', name);
  return true;
end $function$
-- execute: agentflow_platform

CREATE OR REPLACE FUNCTION agentflow.id_exists(kind text, id text)
 RETURNS boolean
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
BEGIN ATOMIC
 SELECT
         CASE kind
             WHEN 'tenant'::text THEN (EXISTS ( SELECT
                FROM tenants t
               WHERE (t.id = id_exists.id)))
             WHEN 'key'::text THEN (EXISTS ( SELECT
                FROM api_keys k
               WHERE (k.id = id_exists.id)))
             WHEN 'key_hash'::text THEN (EXISTS ( SELECT
                FROM api_keys k
               WHERE (k.hash = id_exists.id)))
             WHEN 'workflow'::text THEN (EXISTS ( SELECT
                FROM workflows w
               WHERE ((w.id = id_exists.id) AND (w.deleted_at IS NULL))))
             WHEN 'source'::text THEN (EXISTS ( SELECT
                FROM sources s
               WHERE ((s.id = id_exists.id) AND (s.deleted_at IS NULL))))
             WHEN 'execution'::text THEN (EXISTS ( SELECT
                FROM executions e
               WHERE (e.id = id_exists.id)))
             ELSE false
         END AS "case";
END
-- execute: agentflow_tenant
-- owner: agentflow_platform

CREATE OR REPLACE FUNCTION agentflow.search_workflows(grams text[], pattern text)
 RETURNS SETOF text
 LANGUAGE sql
 STABLE SECURITY DEFINER
 SET search_path TO 'pg_catalog', 'pg_temp'
BEGIN ATOMIC
 SELECT w.id
    FROM workflows w
   WHERE ((w.tenant_id = current_tenant()) AND (w.deleted_at IS NULL) AND (w.search_grams @> search_workflows.grams) AND (w.search_text ~~ search_workflows.pattern));
END
-- execute: agentflow_tenant
-- owner: agentflow_platform

-- migration 20260701080000
-- migration 20260701080100
-- migration 20260701080200
-- migration 20260701080300
-- migration 20260701080400
-- migration 20260701080500
-- migration 20260701080600
-- migration 20260701080700
-- migration 20260701080800
-- migration 20261123080000
