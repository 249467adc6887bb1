-- Shards: spreads the calls of organizations over several PostgreSQL servers, by postgres_fdw. The worker continues to
-- ask one server, the coordinator, which has the sums of an organization computed by its shard.
--
--   psql -X -v ON_ERROR_STOP=1 -d DATABASE -f shards.sql     on the coordinator, as a superuser
--
-- 1. On each shard and on the coordinator: schema.sql, with the same companies, organizations and folders of the same
--    ids. A shard can have the rollup, partitions and replicas of its own.
-- 2. On the coordinator: select callstats.add_shard('one', 'host=... dbname=... user=callstats_worker password=...')
-- 3. For each organization, once its calls are there: select callstats.assign_organization(organization_id, 'one'). It
--    reads them once for their statistics; if their number has changed much: analyze callstats.call_of_ID.
-- 4. In DATABASE_URL of the worker: options='-c plan_cache_mode=force_custom_plan'. Only a plan that knows the
--    organization has the sums computed on its shard; any other has all its calls sent.
--
-- Writers of calls go to the shard. Moving an organization: copy its calls, then assign it again. Tables are adopted on
-- the coordinator (`callstats adopt`): it reads no mappings of a shard.
--
-- Statements of your own on callstats.call_source have to name the organization, as the worker's do. Others read a shard
-- once for each of its organizations, and count its calls as often.
--
-- The password of a shard can be used by callstats_worker and by the owner of callstats.call_source only.

set search_path = pg_catalog, pg_temp;
set client_min_messages = warning;
begin;
-- The owner of an object in this schema can run code as those who use it, so every owner must be trusted.
do $$
declare
    stranger record;
begin
    select pg_describe_object(class, o.oid, 0) as object, pg_get_userbyid(owner) as owner into stranger
    from (select 'pg_namespace'::regclass as class, oid, nspowner as owner, oid as schema from pg_namespace
          union all select 'pg_class'::regclass, oid, relowner, relnamespace from pg_class
          union all select 'pg_proc'::regclass, oid, proowner, pronamespace from pg_proc
          union all select 'pg_type'::regclass, oid, typowner, typnamespace from pg_type
          union all select 'pg_operator'::regclass, oid, oprowner, oprnamespace from pg_operator) o
    where schema = to_regnamespace('callstats') and not pg_has_role(owner, current_user, 'member')
      and not pg_has_role(owner, (select datdba from pg_database where datname = current_database()), 'member')
    limit 1;
    if stranger is not null then
        raise exception 'callstats does not trust the owner of %: %', stranger.object, stranger.owner
            using hint = 'It must belong to a superuser, the owner of the database, or the role that runs this script: '
                'give it to one of them, or drop it.';
    end if;
end
$$;

do $$
begin
    if to_regprocedure('callstats.require_call_source(text, text[])') is null then
        raise exception 'the schema callstats is older than this file' using hint = 'Run schema.sql first.';
    end if;
    perform callstats.retry_on_lock('lock table only callstats.call in share update exclusive mode');
    perform callstats.require_call_source('shards.sql', array['shards', 'calls']);
    if (select kind from callstats.call_source_kind()) = 'calls' and exists (select from callstats.call) then
        raise warning 'the calls in callstats.call of this server are in no answer from now on'
            using hint = 'Copy them to the shards, and assign their organizations.';
    end if;
end
$$;
create extension if not exists postgres_fdw with schema public;

create table if not exists callstats.call_sharded (
    organization_id int not null, call_date date not null, folder_id int not null, agent_id text collate "C",
    calls bigint, duration_ms bigint
) partition by list (organization_id);

-- A foreign table behind a view is read as the owner of the view.
create or replace function callstats.shard_users() returns setof name
language sql stable set search_path = pg_catalog, pg_temp as $$
    select 'callstats_worker' union
    select pg_get_userbyid(relowner) from pg_class where oid = to_regclass('callstats.call_source')
$$;

create or replace function callstats.add_shard(name text, connection text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    pair text[];
    -- Rows over the network are expensive. With this cost, sums are computed on the shard for a single day, too.
    server_options text[] := array['fetch_size ''10000''', 'fdw_tuple_cost ''1'''];
    user_options text[] := '{}';
    role name;
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
    for role in select * from callstats.shard_users() loop
        execute format('create user mapping for %I server %I options (%s)', role, 'callstats_' || name,
            array_to_string(user_options, ', '));
    end loop;
end
$$;

-- The new table is read for its statistics before it takes the place of the old one, so that readers do not wait.
create or replace function callstats.assign_organization(organization int, shard text) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    partition text := format('callstats.%I', 'call_of_' || organization);
    incoming text := format('callstats.%I', 'call_of_' || organization || '_incoming');
begin
    execute format('create foreign table %s (organization_id int not null, call_date date not null,
        folder_id int not null, agent_id text collate "C", calls bigint, duration_ms bigint) server %I
        options (schema_name %L, table_name %L)', incoming, 'callstats_' || shard, 'callstats', 'call_source');
    perform callstats.give_to_owner(); -- ANALYZE connects as the owner of the table
    execute format('analyze %s', incoming);
    perform callstats.retry_on_lock('lock table only callstats.call_sharded in access exclusive mode',
        format('drop foreign table if exists %s', partition),
        format('alter foreign table %s rename to %I', incoming, 'call_of_' || organization),
        format('alter table callstats.call_sharded attach partition %s for values in (%L)', partition, organization));
end
$$;

create or replace function callstats.place(organization int, shard text) returns void -- the name of the first version
language sql set search_path = pg_catalog, pg_temp as 'select callstats.assign_organization(organization, shard)';

revoke execute on function callstats.shard_users(), callstats.add_shard(text, text),
    callstats.assign_organization(int, text), callstats.place(int, text) from public;

-- The organization is one of the grouping columns, so each group is complete on its shard, and only sums are sent. The
-- planner considers that only with this setting.
do $$
begin
    if (select kind from callstats.call_source_kind()) <> 'shards' then
        perform callstats.replace_call_source('shards');
    end if;
    execute format('alter role callstats_worker in database %I set enable_partitionwise_aggregate = on',
        current_database());
end
$$;

-- The first version let every role use the password.
do $$
declare
    mapping record;
    role name;
begin
    for mapping in
        select srvname,
               array(select format('%I %L', option_name, option_value) from pg_options_to_table(umoptions)) as options
        from pg_user_mappings where umuser = 0 and srvname like 'callstats\_%'
    loop
        for role in select * from callstats.shard_users() loop
            execute format('create user mapping if not exists for %I server %I options (%s)', role, mapping.srvname,
                array_to_string(mapping.options, ', '));
        end loop;
        execute format('drop user mapping for public server %I', mapping.srvname);
    end loop;
end
$$;
select callstats.give_to_owner() \g /dev/null
commit;
