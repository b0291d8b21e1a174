-- migrate:up

-- Both functions look past the row level policies, each for one narrow question. They belong to
-- agentflow_platform, and their bodies are bound to the tables when they are made, so no
-- search_path can lead them astray.

-- Whether an id exists, whoever owns it: the difference between "not yours" and "unknown".
create function id_exists(kind text, id text) returns boolean
language sql stable security definer
set search_path = pg_catalog, pg_temp
begin atomic
  select case id_exists.kind
    when 'tenant' then exists (select from tenants t where t.id = id_exists.id)
    when 'key' then exists (select from api_keys k where k.id = id_exists.id)
    when 'key_hash' then exists (select from api_keys k where k.hash = id_exists.id)
    when 'workflow' then exists (select from workflows w where w.id = id_exists.id and w.deleted_at is null)
    when 'source' then exists (select from sources s where s.id = id_exists.id and s.deleted_at is null)
    when 'execution' then exists (select from executions e where e.id = id_exists.id)
    else false
  end;
end;

-- The workflows of this transaction's tenant whose search_text is like the pattern and holds all
-- the grams. Underneath a policy Postgres would not use the index on grams: array operators may
-- leak what they see.
create function search_workflows(grams text[], pattern text) returns setof text
language sql stable security definer
set search_path = pg_catalog, pg_temp
begin atomic
  select w.id from workflows w
  where w.tenant_id = current_tenant()
    and w.deleted_at is null
    and w.search_grams @> search_workflows.grams
    and w.search_text like search_workflows.pattern;
end;

revoke execute on function id_exists(text, text), search_workflows(text[], text) from public;

-- A function's new owner needs the right to create in its schema, if only for this moment.
do $$
begin
  execute format('grant create on schema %I to agentflow_platform', current_schema());
  alter function id_exists(text, text) owner to agentflow_platform;
  alter function search_workflows(text[], text) owner to agentflow_platform;
  execute format('revoke create on schema %I from agentflow_platform', current_schema());
end $$;

grant execute on function id_exists(text, text), search_workflows(text[], text) to agentflow_tenant;

-- migrate:down

drop function search_workflows(text[], text);
drop function id_exists(text, text);
