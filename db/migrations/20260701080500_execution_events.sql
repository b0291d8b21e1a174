-- migrate:up

-- The archive of the execution log: one row per commit, byte for byte. The body is bytea and not
-- JSON, because whatever the log holds must be storable, and Postgres refuses some valid JSON.
create table execution_events (
  partition    smallint not null,
  seq          bigint not null,
  tenant_id    text not null,
  execution_id text not null,
  previous     bigint not null,
  commit_id    text not null,
  stored_at    timestamptz not null,
  body         bytea not null,
  primary key (partition, seq, stored_at)
) partition by range (stored_at);

create index execution_events_by_execution on execution_events (execution_id, seq);

alter table execution_events enable row level security;
alter table execution_events force row level security;
create policy tenant on execution_events using (tenant_id = current_tenant());
create policy platform on execution_events to agentflow_platform using (true);
grant select on execution_events to agentflow_tenant;
grant select, insert, update, delete on execution_events to agentflow_platform;

-- Takes what no day has a partition for, so that a late janitor never stops the projector.
create table execution_events_default partition of execution_events default;
alter table execution_events_default enable row level security;
alter table execution_events_default force row level security;
create policy tenant on execution_events_default using (tenant_id = current_tenant());
create policy platform on execution_events_default to agentflow_platform using (true);

-- Makes the partitions of the days from first to last that do not exist, and returns how many it
-- made. A day whose rows already lie in the default partition is left there.
create function create_event_partitions(first date, last date) returns integer
language plpgsql security definer
set search_path from current
set lock_timeout = '2s'
as $$
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
end $$;

-- Drops the partition of one day, and tells whether there was one.
create function drop_event_partition(day date) returns boolean
language plpgsql security definer
set search_path from current
set lock_timeout = '2s'
as $$
declare
  name text := 'execution_events_' || to_char(day, 'YYYYMMDD');
begin
  if to_regclass(name) is null then
    return false;
  end if;
  execute format('drop table %I', name);
  return true;
end $$;

revoke execute on function create_event_partitions(date, date), drop_event_partition(date) from public;
grant execute on function create_event_partitions(date, date), drop_event_partition(date) to agentflow_platform;

-- migrate:down

drop function drop_event_partition(date);
drop function create_event_partitions(date, date);
drop table execution_events;
