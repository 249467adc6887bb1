-- callstats: schema, version 2. PostgreSQL 13 or newer.
--
--   psql -X -v ON_ERROR_STOP=1 -d DATABASE -f schema.sql
--
-- Safe to run again, also over an older version, beside writers, and if call_source was replaced by a view of your own:
-- what exists is kept. All of it happens, or nothing.
--
-- Privileges. Run it as a superuser or as the owner of the database. A plain owner needs the role callstats_worker to
-- exist: "create role callstats_worker login connection limit 20". The role's limits that it may not set are skipped
-- with a warning. PostgreSQL lets every role create temporary tables.
-- callstats needs none; if the database is used for nothing else: "revoke temporary on database DATABASE from public".
--
-- Locks. Everything that callstats ships takes its locks in this order, waits up to 1.5 seconds for one, and then lets
-- writers and readers pass before it tries again:
--
--   1. callstats.call in share update exclusive mode, which blocks neither readers nor writers: one script at a time
--   2. callstats.call_source, which readers lock before the tables behind it
--   3. callstats.call in a stronger mode, then its partitions, then callstats.folder, then callstats.call_key
--   4. callstats.call_daily, then callstats.rollup_state

-- Nothing that another role may create is ever found by a name or an operator in here.
set search_path = pg_catalog, pg_temp;
begin;
set local client_min_messages = warning;

-- Two first runs at once: the second waits here until the first one has committed.
do $$
begin
    loop
        begin
            create schema if not exists callstats;
            exit;
        exception when unique_violation or duplicate_schema then
            null;
        end;
    end loop;
end
$$;

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
    loop
        begin
            create table if not exists callstats.schema_version (
                version int primary key,
                installed_at timestamptz not null default now()
            );
            exit;
        exception when unique_violation or duplicate_table or duplicate_object then
            null; -- created at the same moment, in a schema that was there
        end;
    end loop;
end
$$;
lock table callstats.schema_version in share row exclusive mode;

-- The worker logs in as this role. It has no password; pg_hba.conf or the operator says how it may connect.
do $$
begin
    if not exists (select from pg_roles where rolname = 'callstats_worker') then
        create role callstats_worker login;
    end if;
exception
    when duplicate_object or unique_violation then
        null; -- created by a run in another database of this server at the same moment
    when insufficient_privilege then
        raise exception 'the role callstats_worker does not exist, and % may not create it', current_user
            using hint = 'As a superuser: create role callstats_worker login connection limit 20';
end
$$;

-- One application must not be able to use up all connections of the server. A limit that was set is kept.
do $$
begin
    if exists (select from pg_roles where rolname = 'callstats_worker' and rolconnlimit = -1) then
        alter role callstats_worker connection limit 20;
    end if;
exception
    when insufficient_privilege then
        raise warning 'callstats_worker has no connection limit, and % may not set one', current_user
            using hint = 'As a superuser: alter role callstats_worker connection limit 20';
    when others then
        if sqlerrm !~ 'tuple concurrently updated' then -- by a run in another database of this server
            raise;
        end if;
end
$$;

-- The worker sets its limits for each session or transaction. These are for whatever else logs in as the role, and for
-- a transaction whose client vanished before its first statement. What was set for the role is kept, 0 as well. There
-- is no lock_timeout, because statement_timeout counts the wait for a lock, too.
do $$
declare
    name text;
    value text;
begin
    for name, value in
        select * from (values ('statement_timeout', '30s'), ('idle_in_transaction_session_timeout', '60s')) of_role
    loop
        if not exists (select from pg_roles, unnest(rolconfig) setting
                       where rolname = 'callstats_worker' and starts_with(setting, name || '=')) then
            execute format('alter role callstats_worker set %s = %L', name, value);
        end if;
    end loop;
exception
    when insufficient_privilege then
        raise warning 'callstats_worker has no %, and % may not set one', name, current_user
            using hint = 'As a superuser: alter role callstats_worker set statement_timeout = ''30s''; '
                'alter role callstats_worker set idle_in_transaction_session_timeout = ''60s''';
    when others then
        if sqlerrm !~ 'tuple concurrently updated' and sqlstate <> '23505' then -- by a run in another database
            raise;
        end if;
end
$$;

comment on table callstats.schema_version is 'Versions of schema.sql that ran here; the highest counts';

-- ---------------------------------------------------------------------------------------------------------------
-- What the scripts of callstats share. Nobody but the owner may run it.

-- Runs statements that take locks: all of them, or none. What has to wait for longer than a moment is given up, so that
-- those that queue behind it continue, and tried again after a pause.
create or replace function callstats.retry_on_lock(variadic statements text[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp set lock_timeout = '700ms' as $$
declare
    pause numeric := 0.5;
    statement text;
    holders text;
begin
    if cardinality(statements) = 1 then
        perform set_config('lock_timeout', '1500ms', true);
    end if;
    for attempt in 1..30 loop
        begin
            foreach statement in array statements loop
                execute statement;
            end loop;
            return;
        exception when lock_not_available or deadlock_detected then
            if attempt = 30 then
                raise;
            end if;
            select string_agg(distinct pid::text, ', ') into holders from pg_locks
            where granted and pid <> pg_backend_pid()
              and database = (select oid from pg_database where datname = current_database())
              and relation in (select oid from pg_class where relnamespace = 'callstats'::regnamespace);
            raise warning 'waiting for a moment without long transactions on the calls; in use by: %', holders
                using hint = 'select * from pg_stat_activity shows what they do.';
        end;
        perform pg_sleep(pause);
        pause := least(pause * 2, 15);
    end loop;
end
$$;

-- The statements that give a relation of the same name what this one has: owner, privileges, comments and settings.
create or replace function callstats.attributes_of(relation regclass) returns text[]
language sql stable set search_path = pg_catalog, pg_temp as $$
    with this as (
        select c.*, case c.relkind when 'v' then 'view' when 'S' then 'sequence' else 'table' end as kind,
               case c.relkind when 'S' then 'sequence ' else '' end as sequence
        from pg_class c where c.oid = relation
    ), granted as (
        select null::name as attname, a.* from this, aclexplode(this.relacl) a
        union all
        select t.attname, a.* from pg_attribute t, aclexplode(t.attacl) a
        where t.attrelid = relation and not t.attisdropped
    )
    select array(
        select statement from (
            select 1 as step, format('alter %s %s owner to %I', kind, relation, pg_get_userbyid(relowner)) as statement
            from this where relowner <> (select oid from pg_roles where rolname = current_user)
            union all
            select 2, format('revoke all on %s from public', sequence || relation) from this where relacl is not null
            union all
            select 3, format('grant %s%s on %s to %s%s', privilege_type, '(' || quote_ident(attname) || ')',
                    sequence || relation,
                    case when grantee = 0 then 'public' else quote_ident(pg_get_userbyid(grantee)) end,
                    case when is_grantable and grantee <> 0 then ' with grant option' else '' end)
            from granted, this where grantee <> relowner
            union all
            select 4, format('comment on %s %s is %L', kind, relation, obj_description(oid, 'pg_class'))
            from this where obj_description(oid, 'pg_class') is not null
            union all
            select 5, format('comment on column %s.%I is %L', relation, attname, col_description(relation, attnum))
            from pg_attribute
            where attrelid = relation and attnum > 0 and not attisdropped
              and col_description(relation, attnum) is not null
            union all
            select 6, format('alter view %s set (%s)', relation, array_to_string(reloptions, ', '))
            from this where kind = 'view' and reloptions is not null
            union all
            select 7, format('alter table %s alter column %I set statistics %s', relation, attname, attstattarget)
            from pg_attribute, this
            where attrelid = relation and attnum > 0 and not attisdropped and attstattarget >= 0 and kind = 'table'
            union all
            select 8, format('alter table %s replica identity %s', relation,
                    case relreplident when 'f' then 'full' else 'nothing' end)
            from this where kind = 'table' and relreplident in ('f', 'n')
        ) all_of_them order by step, statement)
$$;

-- The views and functions, other than `besides`, that refer to a relation: null if there are none.
create or replace function callstats.dependents_of(relation regclass, besides regclass default null) returns text
language sql stable set search_path = pg_catalog, pg_temp as $$
    select string_agg(distinct name, ', ') from (
        select case when d.classid = 'pg_rewrite'::regclass then 'view ' || r.ev_class::regclass::text
                    else pg_describe_object(d.classid, d.objid, 0) end as name
        from pg_depend d
        left join pg_rewrite r on d.classid = 'pg_rewrite'::regclass and r.oid = d.objid
        where d.refclassid = 'pg_class'::regclass and d.refobjid = relation and d.deptype = 'n'
          and (d.classid = 'pg_rewrite'::regclass and r.ev_class <> relation and r.ev_class is distinct from besides
               or d.classid = 'pg_proc'::regclass)
    ) others
$$;

-- The definitions of callstats.call_source that callstats ships.
create or replace function callstats.shipped_call_source(out kind text, out source regclass, out query text)
returns setof record language sql stable set search_path = pg_catalog, pg_temp as $$
    select k, to_regclass(s), q from (values
        ('calls', 'callstats.call', 'select organization_id, call_date, folder_id, agent_id, 1 as calls, duration_ms
            from callstats.call'),
        ('rollup', 'callstats.call_daily', 'select organization_id, call_date, folder_id, agent_id, calls, duration_ms
            from callstats.call_daily'),
        ('rollup', 'callstats.call_daily', 'select organization_id, call_date, folder_id, agent_id, calls::int as calls,
            duration_ms from callstats.call_daily'), -- as the first version had it
        ('shards', 'callstats.call_sharded', 'select organization_id, call_date, folder_id, agent_id,
            sum(calls)::bigint as calls, sum(duration_ms)::bigint as duration_ms
            from callstats.call_sharded group by organization_id, call_date, folder_id, agent_id')) shipped (k, s, q)
$$;

-- Which of them callstats.call_source is; 'missing', or 'other' if it is a site's own. Compares what PostgreSQL makes
-- of each, and therefore creates a view for a moment.
create or replace function callstats.call_source_kind(out kind text, out query text)
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    shipped record;
    found_definition text;
begin
    kind := case when to_regclass('callstats.call_source') is null then 'missing' else 'other' end;
    if (select relkind from pg_class where oid = to_regclass('callstats.call_source')) is distinct from 'v' then
        return;
    end if;
    found_definition := pg_get_viewdef('callstats.call_source'::regclass);
    for shipped in select s.kind, s.query from callstats.shipped_call_source() s where s.source is not null loop
        execute 'create view callstats.call_source_to_compare as ' || shipped.query;
        if pg_get_viewdef('callstats.call_source_to_compare'::regclass) = found_definition then
            kind := shipped.kind;
            query := shipped.query;
        end if;
        drop view callstats.call_source_to_compare;
        exit when query is not null;
    end loop;
end
$$;

-- Stops a script that would replace a call_source which is not one of those that it may replace.
create or replace function callstats.require_call_source(script text, replaceable text[]) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    found_kind text := (select kind from callstats.call_source_kind());
    dependents text;
begin
    if found_kind = 'missing' then
        return;
    elsif found_kind = 'other' then
        raise exception '% would replace callstats.call_source, which is a view of your own', script
            using hint = 'Calls that it reads from elsewhere would be in no answer. If that is what you want, save its '
                'definition and drop it first: drop view callstats.call_source';
    elsif found_kind <> all (replaceable) then
        raise exception '% would replace callstats.call_source, which % needs', script,
                case found_kind when 'rollup' then 'rollup.sql' when 'shards' then 'shards.sql' else 'schema.sql' end
            using hint = case found_kind when 'rollup' then 'Run rollup-remove.sql first.'
                else 'If that is what you want: drop view callstats.call_source' end;
    end if;
    dependents := callstats.dependents_of(to_regclass('callstats.call_source'));
    if found_kind <> replaceable[1] and dependents is not null then
        raise exception '% would replace callstats.call_source, on which % depends', script, dependents
            using hint = 'Drop it, run the script, and create it again.';
    end if;
end
$$;

-- Puts one of the shipped definitions in the place of callstats.call_source, with the privileges, the owner and the
-- comments that it had. `locks` are taken together with the lock on the view.
create or replace function callstats.replace_call_source(new_kind text, variadic locks text[] default '{}') returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    new_query text := (select s.query from callstats.shipped_call_source() s where s.kind = new_kind limit 1);
    attributes text[] := '{}';
    attribute text;
begin
    if to_regclass('callstats.call_source') is not null then
        attributes := callstats.attributes_of('callstats.call_source');
        perform callstats.retry_on_lock(variadic array['drop view callstats.call_source'] || locks);
    elsif cardinality(locks) > 0 then
        perform callstats.retry_on_lock(variadic locks);
    end if;
    execute 'create view callstats.call_source as ' || new_query;
    foreach attribute in array attributes loop
        execute attribute;
    end loop;
    grant select on callstats.call_source to callstats_worker;
end
$$;

-- The moments from which and before which a partition of callstats.call has calls.
create or replace function callstats.partition_bounds(partition regclass, out starts timestamp, out ends timestamp)
language sql stable set search_path = pg_catalog, pg_temp set datestyle = 'ISO, YMD' as $$
    select coalesce(substring(bound from 'FROM \(''([^'']+)''\)')::timestamp, '-infinity'),
           coalesce(substring(bound from 'TO \(''([^'']+)''\)')::timestamp, 'infinity')
    from (select pg_get_expr(relpartbound, oid) as bound from pg_class where oid = partition) this
$$;

-- What a script created belongs to the owner of the calls, whoever ran it.
create or replace function callstats.give_to_owner() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    owner name := (select pg_get_userbyid(relowner) from pg_class where oid = 'callstats.call'::regclass);
    statement text;
begin
    if owner = current_user or not pg_has_role(owner, 'member') then
        return;
    end if;
    for statement in
        select format('alter %s %s owner to %I', case relkind when 'v' then 'view' else 'table' end,
               oid::regclass, owner)
        from pg_class
        where relnamespace = 'callstats'::regnamespace and relkind in ('r', 'p', 'v', 'f')
          and pg_get_userbyid(relowner) = current_user
        union all
        select format('alter routine %s owner to %I', p.oid::regprocedure, owner)
        from pg_proc p
        where pronamespace = 'callstats'::regnamespace and pg_get_userbyid(proowner) = current_user
          and not exists (select from pg_depend where classid = 'pg_proc'::regclass and objid = p.oid and deptype = 'e')
    loop
        execute statement;
    end loop;
end
$$;

revoke execute on function callstats.retry_on_lock(text[]), callstats.attributes_of(regclass),
    callstats.dependents_of(regclass, regclass), callstats.shipped_call_source(), callstats.call_source_kind(),
    callstats.require_call_source(text, text[]), callstats.replace_call_source(text, text[]),
    callstats.partition_bounds(regclass), callstats.give_to_owner() from public;
-- For callstats check. Here, because partitions.sql would change what this script may have changed just now.
grant execute on function callstats.partition_bounds(regclass) to callstats_worker;

-- What is missing in a table of calls that is there already needs a lock that blocks its writers for a moment.
do $$
begin
    if to_regclass('callstats.call') is not null then
        perform callstats.retry_on_lock('lock table only callstats.call in share update exclusive mode');
    end if;
end
$$;

-- ---------------------------------------------------------------------------------------------------------------
-- Tenants. Names compare by bytes, so that order and equality are the same on every server.

create table if not exists callstats.company (
    id int generated by default as identity primary key,
    short_name text collate "C" not null unique,
    token_sha256 bytea unique,
    constraint company_short_name_length check (octet_length(short_name) between 1 and 1000),
    constraint company_token_is_a_digest check (octet_length(token_sha256) = 32)
);
comment on column callstats.company.token_sha256 is 'The token "default" of company_token; null: there is none';

create table if not exists callstats.organization (
    id int generated by default as identity primary key,
    company_id int not null references callstats.company,
    short_name text collate "C" not null,
    time_zone text not null default 'UTC',
    unique (company_id, short_name),
    constraint organization_short_name_length check (octet_length(short_name) between 1 and 1000)
);
comment on column callstats.organization.time_zone is 'IANA name; "today" is the date there';

create table if not exists callstats.folder (
    id int generated by default as identity primary key,
    organization_id int not null references callstats.organization,
    name text collate "C" not null,
    unique (organization_id, name),
    unique (organization_id, id), -- what a call refers to
    constraint folder_name_length check (octet_length(name) between 1 and 1000)
);

-- Why a time zone cannot be that of an organization; null: it can. AT TIME ZONE also takes abbreviations and POSIX
-- rules, so that a typing error can be a valid zone ("Europe/Berlin2"). It reads a name that is both an abbreviation
-- and a zone as the abbreviation: CET then has no summer time. SET TIME ZONE reads it as the zone; both must agree.
create or replace function callstats.time_zone_problem(name text) returns text
language plpgsql stable set search_path = pg_catalog, pg_temp set timezone = 'UTC' as $$
begin
    if name in ('UTC', 'GMT') then
        return null;
    elsif name in ('posixrules', 'localtime', 'Factory') then
        return 'is not the same on every server';
    elsif exists (select from pg_timezone_abbrevs z where z.abbrev = upper(name)) then
        if not exists (select from callstats.organization o where o.time_zone = name)
           and not exists (select from pg_timezone_names z where z.name = time_zone_problem.name) then
            return 'is not known to this server';
        end if;
        perform set_config('timezone', name, true);
        if exists (select from generate_series(timestamptz '1970-01-01 00:00+00', '2038-01-01 00:00+00', '72 hours') at
                   where at::timestamp <> at at time zone name) then
            return 'has a fixed offset in PostgreSQL, without summer time';
        end if;
    elsif not exists (select from callstats.organization o where o.time_zone = name) -- the list is read from files
          and not exists (select from pg_timezone_names z where z.name = time_zone_problem.name) then
        return 'is not known to this server';
    end if;
    return null;
end
$$;

create or replace function callstats.check_time_zone() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    problem text := callstats.time_zone_problem(new.time_zone);
begin
    if problem is not null then
        raise exception 'time zone "%" %', new.time_zone, problem
            using errcode = 'invalid_parameter_value',
                  hint = case upper(new.time_zone)
                      when 'CET' then 'Use the zone of a city, such as Europe/Brussels.'
                      when 'MET' then 'Use the zone of a city, such as Europe/Brussels.'
                      when 'EET' then 'Use the zone of a city, such as Europe/Athens.'
                      when 'WET' then 'Use the zone of a city, such as Europe/Lisbon.'
                      else 'Use the IANA name of a city, such as Europe/Berlin; '
                          '"select name from pg_timezone_names" lists them.' end;
    end if;
    return new;
end
$$;
revoke execute on function callstats.check_time_zone(), callstats.time_zone_problem(text) from public;
grant execute on function callstats.time_zone_problem(text) to callstats_worker; -- callstats check looks for older ones

-- ---------------------------------------------------------------------------------------------------------------
-- Calls.

create table if not exists callstats.call (
    id bigint generated by default as identity,
    organization_id int not null,
    folder_id int not null,
    agent_id text collate "C",
    started_at timestamp not null,
    call_date date not null,
    duration_ms int not null,
    external_id text collate "C",
    primary key (organization_id, id), -- with the organization, so that the table can be distributed by it
    foreign key (organization_id, folder_id) references callstats.folder (organization_id, id),
    constraint call_date_is_the_date_of_started_at check (call_date = started_at::date),
    constraint call_started_at_is_finite check (isfinite(started_at)),
    constraint call_duration_is_not_negative check (duration_ms >= 0),
    constraint call_agent_id_length check (octet_length(agent_id) between 1 and 1000),
    constraint call_external_id_length check (octet_length(external_id) between 1 and 1000)
);

-- Upgrades a table without the column; the calls in it have no external id.
do $$
begin
    if not exists (select from pg_attribute
                   where attrelid = 'callstats.call'::regclass and attname = 'external_id') then
        perform callstats.retry_on_lock('lock table callstats.call in access exclusive mode');
        alter table callstats.call add column external_id text collate "C",
            add constraint call_external_id_length check (octet_length(external_id) between 1 and 1000) not valid;
    end if;
end
$$;
comment on column callstats.call.external_id is 'What its source calls it, unique in the organization; null: unknown';
comment on column callstats.call.started_at is 'Wall-clock time in the time zone of the organization';
comment on column callstats.call.call_date is 'Date of started_at; filled in where it is not given';
comment on column callstats.call.agent_id is 'Null: no agent; an empty one is stored as null';
comment on column callstats.call.duration_ms is 'Milliseconds';

-- Fires only for rows that need it: a COPY that brings dates, and null where there is no agent, does not pay for it.
create or replace function callstats.complete_call() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    if new.agent_id = '' then
        new.agent_id := null;
    end if;
    if new.call_date is null
       or tg_op = 'UPDATE' and new.call_date = old.call_date and new.started_at <> old.started_at then
        new.call_date := new.started_at::date;
    end if;
    return new;
end
$$;
revoke execute on function callstats.complete_call() from public;

-- The external ids that are taken. A unique index of callstats.call could not hold across partitions by month, and to
-- add one to a table that is there would block its writers for as long as it is read.
create table if not exists callstats.call_key (
    organization_id int not null,
    external_id text collate "C" not null,
    call_id bigint not null,
    primary key (organization_id, external_id)
);
comment on table callstats.call_key is 'External ids of calls; follows callstats.call by triggers';

-- Runs as the owner of the schema, because who may write calls need not have a privilege on their keys. A key is free
-- if its call is not there: calls can also leave with a partition that is detached, or while triggers are disabled.
-- Logical replication fires no statement triggers on a subscriber, so ids are not kept unique there.
create or replace function callstats.keep_call_key() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    added_keys text := 'select organization_id, external_id, id from added where external_id is not null';
    removed_keys text := 'select organization_id, external_id, id from removed where external_id is not null';
    -- A call of this statement, a, whose key belongs to another one.
    is_of_another text := 'k.organization_id = a.organization_id and k.external_id = a.external_id
        and k.call_id <> a.id';
    wanted bigint;
    inserted bigint := 0;
    taken text;
    is_missing boolean;
begin
    if tg_relid <> 'callstats.call'::regclass
       and pg_partition_root(tg_relid) is distinct from 'callstats.call'::regclass then
        raise exception 'callstats.keep_call_key is for callstats.call and its partitions, not for %',
                tg_relid::regclass
            using errcode = 'insufficient_privilege', hint = 'Drop the triggers named call_key_on_... of that table.';
    end if;
    if tg_op = 'INSERT' then
        -- Nearly always all ids are free. In their order, so that two statements cannot wait for each other. ON CONFLICT
        -- doubles the cost of a key, but a subtransaction costs more than that for a few.
        wanted := (select count(external_id) from added);
        if wanted >= 1000 then
            begin
                insert into callstats.call_key (organization_id, external_id, call_id)
                select organization_id, external_id, id from added
                where external_id is not null order by organization_id, external_id;
                return null;
            exception when unique_violation then
                null;
            end;
        elsif wanted > 0 then
            insert into callstats.call_key (organization_id, external_id, call_id)
            select organization_id, external_id, id from added
            where external_id is not null order by organization_id, external_id
            on conflict do nothing;
            get diagnostics inserted = row_count;
        end if;
        if inserted = wanted then
            return null;
        end if;
    elsif tg_op = 'UPDATE' then
        -- Nearly never an id changes. A call that moves into another partition keeps its own.
        if not exists (select from (select organization_id, external_id, id, 1 as change from added
                                    where external_id is not null
                                    union all
                                    select organization_id, external_id, id, -1 from removed
                                    where external_id is not null) both_sides
                       group by organization_id, external_id, id having sum(change) <> 0) then
            return null;
        end if;
        added_keys := format('%s except %s', added_keys, removed_keys);
        removed_keys := format('%s except select organization_id, external_id, id from added', removed_keys);
    elsif tg_op = 'DELETE' then
        if not exists (select from removed where external_id is not null) then
            return null;
        end if;
    elsif tg_relid = 'callstats.call'::regclass then
        begin
            truncate callstats.call_key;
        exception when object_in_use then -- by the same TRUNCATE, or a cursor
            delete from callstats.call_key;
        end;
        return null;
    elsif not exists (select from callstats.call_key) then
        return null;
    else
        removed_keys := format('select organization_id, external_id, id from only %s', tg_relid::regclass);
    end if;

    -- From here on each statement is planned for the number of its rows: a plan that served one call is kept by the
    -- session, and would not serve a million.
    if tg_op <> 'INSERT' then
        execute format('delete from callstats.call_key k using (%s) r
            where k.organization_id = r.organization_id and k.external_id = r.external_id and k.call_id = r.id',
            removed_keys);
    end if;
    while tg_op in ('INSERT', 'UPDATE') loop
        execute format('insert into callstats.call_key (organization_id, external_id, call_id)
            select organization_id, external_id, id from (%s) a order by organization_id, external_id
            on conflict do nothing', added_keys);
        -- Whoever takes over a free key holds it until the end of the transaction; each statement after that sees it.
        execute format('select from callstats.call_key k, (%s) a where %s
            order by k.organization_id, k.external_id for update of k', added_keys, is_of_another);
        execute format('select a.external_id from callstats.call_key k, (%s) a where %s
            and exists (select from callstats.call c where c.organization_id = k.organization_id
                        and c.id = k.call_id and c.external_id = k.external_id)
            order by a.external_id limit 1', added_keys, is_of_another) into taken;
        if taken is not null then
            raise exception 'the organization has a call with the external id "%" already', left(taken, 50)
                using errcode = 'unique_violation', table = 'call', schema = 'callstats', column = 'external_id',
                      constraint = 'call_key_pkey';
        end if;
        execute format('update callstats.call_key k set call_id = a.id from (%s) a where %s',
            added_keys, is_of_another);
        -- A key that was there before the second statement may be gone, and an id may stand twice in this statement.
        execute format('select exists (select from (%s) a left join callstats.call_key k
                on k.organization_id = a.organization_id and k.external_id = a.external_id and k.call_id = a.id
            where k.call_id is null)', added_keys) into is_missing;
        exit when not is_missing;
    end loop;
    return null;
end
$$;

-- A statement fires the triggers of the table that it names: callstats.call, or one of its partitions. A partition that
-- was attached by hand gets its own when this file runs again.
create or replace function callstats.install_key_triggers(calls regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    if exists (select from pg_trigger where tgname = 'call_key_on_truncate' and tgrelid = calls) then
        return;
    end if;
    execute format('create trigger call_key_on_insert after insert on %s referencing new table as added
        for each statement execute function callstats.keep_call_key()', calls);
    execute format('create trigger call_key_on_update after update on %s
        referencing new table as added old table as removed
        for each statement execute function callstats.keep_call_key()', calls);
    execute format('create trigger call_key_on_delete after delete on %s referencing old table as removed
        for each statement execute function callstats.keep_call_key()', calls);
    execute format('create trigger call_key_on_truncate before truncate on %s
        for each statement execute function callstats.keep_call_key()', calls);
end
$$;

-- Restoring the data of a dump (pg_dump --data-only) fills in the calls first, and with them their keys.
create or replace function callstats.call_key_is_new() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    return case when exists (select from callstats.call_key k where k.organization_id = new.organization_id
                             and k.external_id = new.external_id and k.call_id = new.call_id)
           then null else new end;
end
$$;
revoke execute on function callstats.keep_call_key(), callstats.install_key_triggers(regclass),
    callstats.call_key_is_new() from public;

-- Control characters in names that people read are mistakes, and each takes six bytes in an answer. Existing names
-- stay. In other encodings than UTF8 those above 127 may be letters.
do $$
declare
    control text := case when getdatabaseencoding() = 'UTF8' then '[\u0001-\u001f\u007f-\u009f]'
                         else '[\u0001-\u001f\u007f]' end;
    is_clean boolean;
begin
    if not exists (select from pg_constraint where conname = 'folder_name_has_no_control_character'
                   and conrelid = 'callstats.folder'::regclass) then
        perform callstats.retry_on_lock('lock table callstats.call in access exclusive mode',
            'lock table callstats.folder in access exclusive mode nowait'); -- in the order of writers of calls
        execute format('select not exists (select from callstats.folder where name ~ %L)', control) into is_clean;
        execute format('alter table callstats.folder add constraint folder_name_has_no_control_character
            check (name !~ %L) %s', control, case when is_clean then '' else 'not valid' end);
    end if;
    if not exists (select from pg_constraint where conname = 'call_agent_id_has_no_control_character'
                   and conrelid = 'callstats.call'::regclass) then
        perform callstats.retry_on_lock('lock table callstats.call in access exclusive mode');
        is_clean := not exists (select from callstats.call); -- to look at all of them would take too long
        execute format('alter table callstats.call add constraint call_agent_id_has_no_control_character
            check (agent_id !~ %L) %s', control, case when is_clean then '' else 'not valid' end);
    end if;
end
$$;

-- Created only if they are missing: replacing a trigger would wait for every reader.
do $$
begin
    if not exists (select from pg_trigger where tgname = 'organization_time_zone'
                   and tgrelid = 'callstats.organization'::regclass) then
        create trigger organization_time_zone
            before insert or update of time_zone on callstats.organization
            for each row execute function callstats.check_time_zone();
    end if;
    if not exists (select from pg_trigger where tgname = 'call_complete_on_insert'
                   and tgrelid = 'callstats.call'::regclass) then
        perform callstats.retry_on_lock('lock table callstats.call in share row exclusive mode');
        create trigger call_complete_on_insert
            before insert on callstats.call
            for each row when (new.call_date is null or new.agent_id = '')
            execute function callstats.complete_call();
        create trigger call_complete_on_update
            before update on callstats.call
            for each row when (new.call_date is null or new.agent_id = '' or new.started_at <> old.started_at)
            execute function callstats.complete_call();
    end if;
    if not exists (select from pg_trigger where tgname = 'call_key_is_new'
                   and tgrelid = 'callstats.call_key'::regclass) then
        create trigger call_key_is_new
            before insert on callstats.call_key
            for each row when (pg_trigger_depth() = 0) execute function callstats.call_key_is_new();
    end if;
end
$$;

-- They were triggers for each row, which the partitions had from callstats.call.
do $$
declare
    missing regclass[] := array(
        select c.oid::regclass from pg_class c
        where (c.oid = 'callstats.call'::regclass
               or c.oid in (select inhrelid from pg_inherits where inhparent = 'callstats.call'::regclass))
          and not exists (select from pg_trigger where tgrelid = c.oid and tgname = 'call_key_on_truncate')
        order by c.oid <> 'callstats.call'::regclass, c.oid);
    calls regclass;
begin
    if exists (select from pg_trigger where tgname = 'call_key_on_insert' and tgtype & 1 = 1
               and tgrelid = 'callstats.call'::regclass) then
        perform callstats.retry_on_lock('lock table callstats.call in access exclusive mode');
        drop trigger call_key_on_insert on callstats.call;
        drop trigger call_key_on_update on callstats.call;
        drop trigger call_key_on_delete on callstats.call;
    elsif cardinality(missing) > 0 then
        perform callstats.retry_on_lock('lock table callstats.call in share row exclusive mode');
    end if;
    foreach calls in array missing loop
        perform callstats.install_key_triggers(calls);
    end loop;
    if to_regprocedure('callstats.create_month_partitions(int)') is not null
       and (select prosrc from pg_proc where oid = to_regprocedure('callstats.create_month_partitions(int)'))
           not like '%install_key_triggers%' then
        raise warning 'callstats.create_month_partitions is older than this file'
            using hint = 'Run partitions.sql, too.';
    end if;
end
$$;

-- The order of the groups: PostgreSQL adds them up as it reads, with no sort and no hash table.
do $$
begin
    if to_regclass('callstats.call_group') is null then
        create index call_group on callstats.call (organization_id, call_date, folder_id, agent_id)
            include (duration_ms);
    end if;
end
$$;

-- The one relation that the worker aggregates. A view of that name that is here already stays as it is.
do $$
begin
    if to_regclass('callstats.call_source') is null then
        perform callstats.replace_call_source('calls');
    end if;
end
$$;

-- ---------------------------------------------------------------------------------------------------------------
-- Files of calls that were loaded, so that none is loaded twice.

create table if not exists callstats.loaded_file (
    sha256 bytea primary key,
    name text not null,
    calls bigint not null,
    loaded_at timestamptz not null default now()
);
alter table callstats.loaded_file add column if not exists bytes bigint,
    add column if not exists complete_bytes bigint,
    add column if not exists unfinished_organization_id int,
    add column if not exists unfinished_call_id bigint,
    add column if not exists has_call_ids boolean not null default false,
    add column if not exists text_sha256 bytea,
    add column if not exists organization_id int,
    add column if not exists mapping_sha256 bytea,
    add column if not exists organization_ids int[],
    add column if not exists folder_ids int[],
    add column if not exists first_day date,
    add column if not exists last_day date;
comment on column callstats.loaded_file.sha256 is
    'SHA-256 of its text in UTF-8 with line feeds; where bytes is null: of the file; a key where text_sha256 differs';
comment on column callstats.loaded_file.text_sha256 is
    'SHA-256 of its text, which may be loaded for several organizations and with several mappings';
comment on column callstats.loaded_file.organization_id is 'That of all calls, where options or mapping name it';
comment on column callstats.loaded_file.mapping_sha256 is 'SHA-256 of the mapping; null: an earlier version loaded it';
comment on column callstats.loaded_file.organization_ids is 'Those of its calls; null: not known';
comment on column callstats.loaded_file.folder_ids is 'Those of its calls; null: not known, or too many';
comment on column callstats.loaded_file.bytes is 'Length of that text: a longer one that starts with it has grown';
comment on column callstats.loaded_file.complete_bytes is 'Length of its lines that have an end';
comment on column callstats.loaded_file.unfinished_call_id is
    'The call of a last line without end: what is there when the file has grown takes its place';
comment on column callstats.loaded_file.has_call_ids is 'Its calls were loaded with external ids';

-- ---------------------------------------------------------------------------------------------------------------
-- The worker reads what its statements need, and nothing else.

revoke all on schema callstats from public;
grant usage on schema callstats to callstats_worker;
revoke all on all tables in schema callstats from callstats_worker;
grant select on callstats.company, callstats.organization, callstats.folder, callstats.call_source,
    callstats.schema_version to callstats_worker;
do $$
begin
    if to_regclass('callstats.zone_day') is not null then -- what adopt.sql created
        grant select on callstats.zone_day, callstats.source to callstats_worker;
    end if;
end
$$;

-- ---------------------------------------------------------------------------------------------------------------
-- Tokens of companies: several count side by side, so that one can be rotated without a gap.

create table if not exists callstats.company_token (
    company_id int not null references callstats.company on delete cascade,
    token_sha256 bytea not null unique,
    name text collate "C" not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    primary key (company_id, name),
    constraint company_token_is_a_digest check (octet_length(token_sha256) = 32),
    constraint company_token_name_length check (octet_length(name) between 1 and 1000)
);
comment on column callstats.company_token.token_sha256 is 'SHA-256 of the token';
comment on column callstats.company_token.expires_at is 'From then on it does not count; null: it does not expire';

-- Version 1 had one token for a company, in company.token_sha256. Statements and executables of that time still use the
-- column: it is the token named "default", and each of the two follows the other. The functions run as the owner of the
-- schema, because a role that may write to one of the tables need not have a privilege on the other. Therefore they
-- verify which table they are called for.
create or replace function callstats.company_token_from_column() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if tg_relid <> 'callstats.company'::regclass or (tg_when, tg_level) <> ('AFTER', 'ROW')
       or tg_op not in ('INSERT', 'UPDATE') then
        raise exception 'callstats.company_token_from_column is for callstats.company, not for %', tg_relid::regclass
            using errcode = 'insufficient_privilege', hint = format('Drop the trigger %I.', tg_name);
    end if;
    if new.token_sha256 is null then
        delete from callstats.company_token where company_id = new.id and name = 'default';
    elsif not exists (select from callstats.company_token
                      where company_id = new.id and name = 'default' and token_sha256 = new.token_sha256) then
        insert into callstats.company_token (company_id, token_sha256, name)
        values (new.id, new.token_sha256, 'default')
        on conflict (company_id, name)
            do update set token_sha256 = excluded.token_sha256, created_at = now(), expires_at = null;
    end if;
    return null;
end
$$;

create or replace function callstats.company_token_to_column() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if tg_relid <> 'callstats.company_token'::regclass or (tg_when, tg_level) <> ('AFTER', 'ROW') then
        raise exception 'callstats.company_token_to_column is for callstats.company_token, not for %',
                tg_relid::regclass
            using errcode = 'insufficient_privilege', hint = format('Drop the trigger %I.', tg_name);
    end if;
    if tg_op <> 'INSERT' and old.name = 'default' then
        update callstats.company set token_sha256 = null
        where id = old.company_id and token_sha256 = old.token_sha256
          and not (tg_op = 'UPDATE' and new.name = 'default' and new.company_id = old.company_id);
    end if;
    if tg_op <> 'DELETE' and new.name = 'default' then
        update callstats.company set token_sha256 = new.token_sha256
        where id = new.company_id and token_sha256 is distinct from new.token_sha256;
    end if;
    return null;
end
$$;

-- Restoring the data of a dump (pg_dump --data-only) fills in company first, and with it the default tokens: the rows
-- that follow bring their dates.
create or replace function callstats.company_token_is_new() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if tg_relid <> 'callstats.company_token'::regclass or (tg_when, tg_level, tg_op) <> ('BEFORE', 'ROW', 'INSERT') then
        raise exception 'callstats.company_token_is_new is for callstats.company_token, not for %', tg_relid::regclass
            using errcode = 'insufficient_privilege', hint = format('Drop the trigger %I.', tg_name);
    end if;
    update callstats.company_token set created_at = new.created_at, expires_at = new.expires_at
    where company_id = new.company_id and name = new.name and token_sha256 = new.token_sha256;
    return case when found then null else new end;
end
$$;
revoke all on function callstats.company_token_from_column(), callstats.company_token_to_column(),
    callstats.company_token_is_new() from public;

insert into callstats.company_token (company_id, token_sha256, name)
select id, token_sha256, 'default' from callstats.company c
where token_sha256 is not null
  and not exists (select from callstats.company_token t where t.company_id = c.id and t.name = 'default')
on conflict do nothing;

do $$
begin
    if not exists (select from pg_trigger where tgname = 'company_token_from_column'
                   and tgrelid = 'callstats.company'::regclass) then
        create trigger company_token_from_column
            after insert or update of token_sha256 on callstats.company
            for each row execute function callstats.company_token_from_column();
    end if;
    if not exists (select from pg_trigger where tgname = 'company_token_to_column'
                   and tgrelid = 'callstats.company_token'::regclass) then
        create trigger company_token_is_new
            before insert on callstats.company_token
            for each row when (new.name = 'default') execute function callstats.company_token_is_new();
        create trigger company_token_to_column
            after insert or update or delete on callstats.company_token
            for each row execute function callstats.company_token_to_column();
    end if;
end
$$;

revoke all on callstats.company_token from callstats_worker;
grant select on callstats.company_token to callstats_worker;

insert into callstats.schema_version (version) values (2) on conflict do nothing;
select callstats.give_to_owner() \g /dev/null

commit;
