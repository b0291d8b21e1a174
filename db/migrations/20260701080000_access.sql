-- migrate:up

-- Two roles without a login. Whoever works on the tables becomes one of them for one transaction:
-- agentflow_tenant sees the rows of app.tenant_id, agentflow_platform (projector, janitor,
-- administrators' lists) sees all. Roles belong to the whole server, so they may be there already,
-- or be made by another database's migration at this very moment.
do $$
begin
  create role agentflow_tenant nologin;
exception when duplicate_object or unique_violation then
  null;
end $$;

do $$
begin
  create role agentflow_platform nologin;
exception when duplicate_object or unique_violation then
  null;
end $$;

-- The owner hands functions to agentflow_platform, and for that must be a member of it.
do $$
begin
  if not pg_has_role(current_user, 'agentflow_platform', 'usage') then
    execute format('grant agentflow_platform to %I', current_user);
  end if;
end $$;

-- Names are no secret; the tables behind them have grants of their own. A login looks names up
-- before it becomes one of the two roles.
do $$
begin
  execute format('grant usage on schema %I to public', current_schema());
end $$;

-- The tenant of this transaction. A connection that has been used before reports an empty setting
-- where a fresh one reports none; both are an error here, so that a forgotten setting never looks
-- like an empty table.
create function current_tenant() returns text
language sql stable
as $$
  select current_setting(case when current_setting('app.tenant_id') = '' then 'app.tenant_id is not set' else 'app.tenant_id' end)
$$;

-- migrate:down

drop function current_tenant();

-- The roles stay: other databases of the server may use them.
