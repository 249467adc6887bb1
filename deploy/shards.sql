-- Shards: spreads the calls of organizations over several PostgreSQL servers, by postgres_fdw. The worker goes on asking
-- one server, the coordinator; that one has the sums of an organization made by its shard.
--
--   psql -X -v ON_ERROR_STOP=1 -d DATABASE -f shards.sql     on the coordinator, as a superuser
--
-- 1. On each shard and on the coordinator: schema.sql, with the same companies, organizations and folders of the same
--    ids. A shard can have the rollup, months and replicas of its own.
-- 2. On the coordinator: select callstats.add_shard('one', 'host=... dbname=... user=callstats_worker password=...')
-- 3. For each organization, once its calls are there: select callstats.place(organization_id, 'one'). It reads them once
--    for their statistics; where their number has changed much: analyze callstats.call_of_ID.
-- 4. In DATABASE_URL of the worker: options='-c plan_cache_mode=force_custom_plan'. Only a plan that knows the
--    organization has the sums made on its shard; any other has all its calls sent.
--
-- Writers of calls go to the shard. Moving an organization: copy its calls, then place it anew.

set client_min_messages = warning;
begin;
create extension if not exists postgres_fdw;

create table if not exists callstats.call_sharded (
    organization_id int not null, call_date date not null, folder_id int not null, agent_id text collate "C",
    calls bigint, duration_ms bigint
) partition by list (organization_id);

create or replace function callstats.add_shard(name text, connection text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    pair text[];
    -- What crosses the network is what costs; told so, PostgreSQL has sums made on the shard for a single day as well.
    server_options text[] := array['fetch_size ''10000''', 'fdw_tuple_cost ''1'''];
    user_options text[] := '{}';
begin
    for pair in select regexp_matches(connection, '(\w+)\s*=\s*(\S+)', 'g') loop
        if pair[1] in ('user', 'password') then
            user_options := user_options || format('%I %L', pair[1], pair[2]);
        else
            server_options := server_options || format('%I %L', pair[1], pair[2]);
        end if;
    end loop;
    execute format('create server %I foreign data wrapper postgres_fdw options (%s)', 'callstats_' || name,
        array_to_string(server_options, ', '));
    execute format('create user mapping for public server %I options (%s)', 'callstats_' || name,
        array_to_string(user_options, ', '));
end
$$;

create or replace function callstats.place(organization int, shard text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    partition text := 'call_of_' || organization;
begin
    execute format('drop foreign table if exists callstats.%I', partition);
    execute format('create foreign table callstats.%I partition of callstats.call_sharded for values in (%L) server %I '
        'options (schema_name %L, table_name %L)', partition, organization, 'callstats_' || shard, 'callstats', 'call_source');
    execute format('analyze callstats.%I', partition);
end
$$;

-- With the organization among its groups, those of a shard are complete on it: what crosses the network is sums. The
-- worker's role has that planned; PostgreSQL leaves it out unless told to.
drop view if exists callstats.call_source;
create view callstats.call_source as
    select organization_id, call_date, folder_id, agent_id, sum(calls)::bigint as calls, sum(duration_ms)::bigint as duration_ms
    from callstats.call_sharded
    group by organization_id, call_date, folder_id, agent_id;
grant select on callstats.call_source to callstats_worker;
do $$
begin
    execute format('alter role callstats_worker in database %I set enable_partitionwise_aggregate = on', current_database());
end
$$;
commit;
