-- The rollup: daily sums in callstats.call_daily, exact to the last committed call, in place of the calls behind
-- call_source. An answer then costs what it has entries, however many calls are behind them.
--
--   psql -X -v ON_ERROR_STOP=1 -d DATABASE -f rollup.sql
--
-- Writers append: a statement that changes calls adds one row for each group that it touches, positive or negative. No
-- row of the rollup is ever waited for, so nobody deadlocks over it. callstats.compact() merges those rows; let it run
-- every few minutes, by the unit callstats-compact.timer or with pg_cron:
--
--   select cron.schedule('callstats', '*/5 * * * *', 'call callstats.compact()')
--
-- Writers are blocked for less than two seconds while the triggers are created; filling in what is there already takes
-- longer and blocks nobody. Safe to run again, also beside writers: then it checks the sums, and fixes them if triggers
-- were disabled or a table was attached as a partition by hand. It stops if callstats.call_source is your own view.
--
-- Dump and restore: a whole dump brings calls and sums together. Data alone (pg_dump -a) doubles the sums of a database
-- that has the rollup, because its triggers fire as well: use --disable-triggers, or run this file again afterwards.
--
-- Replication: a subscriber gets both tables by CREATE PUBLICATION ... FOR ALL TABLES. Empty callstats.rollup_state and
-- callstats.schema_version there before CREATE SUBSCRIPTION.

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
end
$$;
select callstats.retry_on_lock('lock table only callstats.call in share update exclusive mode') \g /dev/null
select callstats.require_call_source('rollup.sql', array['rollup', 'calls']) \g /dev/null

create table if not exists callstats.call_daily (
    organization_id int not null,
    call_date date not null,
    folder_id int not null,
    agent_id text collate "C",
    calls bigint not null,
    duration_ms bigint not null,
    is_delta boolean not null default true
);
comment on column callstats.call_daily.is_delta is 'Appended by a writer and not merged yet';
do $$
begin
    if to_regclass('callstats.call_daily_group') is null then
        create index call_daily_group on callstats.call_daily (organization_id, call_date, folder_id, agent_id)
            include (calls, duration_ms);
    end if;
    if to_regclass('callstats.call_daily_delta') is null then
        create index call_daily_delta on callstats.call_daily (organization_id, call_date) where is_delta;
        -- Merging leaves dead rows; few of them are worth a vacuum, which also keeps index-only scans what they are.
        alter table callstats.call_daily
            set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.02);
    end if;
    -- Merging deletes rows, which a publication of all tables refuses without an identity. There is no key: a group has
    -- several rows until they are merged.
    if (select relreplident from pg_class where oid = 'callstats.call_daily'::regclass) <> 'f' then
        perform callstats.retry_on_lock('alter table callstats.call_daily replica identity full');
    end if;
    if to_regclass('callstats.rollup_state') is null and to_regclass('callstats.raw_calls') is not null then
        alter table callstats.raw_calls rename to rollup_state; -- its name in the first version
        alter table callstats.rollup_state rename since to calls_kept_since;
    end if;
end
$$;

create table if not exists callstats.rollup_state (
    only_row boolean primary key default true check (only_row),
    calls_kept_since date
);
comment on column callstats.rollup_state.calls_kept_since is
    'Sums of earlier days are kept only in callstats.call_daily; null: all calls are there';
insert into callstats.rollup_state default values on conflict do nothing;
create or replace view callstats.raw_calls as -- the name and the column that the first version had
    select only_row, calls_kept_since as since from callstats.rollup_state;

-- Runs as its owner: who writes calls need not be able to write sums. Therefore it looks which table it is called for.
create or replace function callstats.roll_up() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp set work_mem = '64MB' as $$
declare
    first_moment timestamp;
    end_moment timestamp;
    first_day date;
    last_day date;
begin
    if tg_relid <> 'callstats.call'::regclass
       and pg_partition_root(tg_relid) is distinct from 'callstats.call'::regclass then
        raise exception 'callstats.roll_up is for callstats.call and its partitions, not for %', tg_relid::regclass
            using errcode = 'insufficient_privilege', hint = 'Drop the triggers named call_roll_up_... of that table.';
    end if;
    if tg_op = 'INSERT' then
        insert into callstats.call_daily (organization_id, call_date, folder_id, agent_id, calls, duration_ms)
        select organization_id, call_date, folder_id, agent_id, count(*), sum(duration_ms)
        from added group by organization_id, call_date, folder_id, agent_id;
    elsif tg_op = 'DELETE' then
        insert into callstats.call_daily (organization_id, call_date, folder_id, agent_id, calls, duration_ms)
        select organization_id, call_date, folder_id, agent_id, -count(*), -sum(duration_ms)
        from removed group by organization_id, call_date, folder_id, agent_id;
    elsif tg_op = 'UPDATE' then
        insert into callstats.call_daily (organization_id, call_date, folder_id, agent_id, calls, duration_ms)
        select organization_id, call_date, folder_id, agent_id, sum(calls), sum(duration_ms)
        from (select organization_id, call_date, folder_id, agent_id, 1 as calls, duration_ms::bigint from added
              union all
              select organization_id, call_date, folder_id, agent_id, -1, -duration_ms::bigint from removed) changed
        group by organization_id, call_date, folder_id, agent_id
        having sum(calls) <> 0 or sum(duration_ms) <> 0;
    elsif tg_relid = 'callstats.call'::regclass
          and not exists (select from callstats.rollup_state where calls_kept_since is not null) then
        truncate callstats.call_daily; -- seen by every snapshot at once, as TRUNCATE of the calls is
    else
        -- The sums of its days are taken off by rows of their own, as all other changes are: deleting them would miss
        -- the rows that compact() merges meanwhile. Nobody else can have written to the table since its lock was
        -- granted, so a snapshot from now is exact, and an older one is not.
        if current_setting('transaction_isolation') in ('repeatable read', 'serializable')
           and exists (select from callstats.call_daily) then
            raise exception 'the rollup cannot follow TRUNCATE in a % transaction',
                    current_setting('transaction_isolation')
                using errcode = 'feature_not_supported', hint = 'Run it in a transaction that is READ COMMITTED.';
        end if;
        select starts, ends into first_moment, end_moment from callstats.partition_bounds(tg_relid);
        first_day := first_moment::date;
        last_day := (end_moment - interval '1 microsecond')::date;
        insert into callstats.call_daily (organization_id, call_date, folder_id, agent_id, calls, duration_ms)
        select organization_id, call_date, folder_id, agent_id, -sum(calls), -sum(duration_ms)
        from callstats.call_daily
        where call_date between first_day and last_day
          and call_date >= coalesce((select calls_kept_since from callstats.rollup_state), '-infinity')
        group by organization_id, call_date, folder_id, agent_id
        having sum(calls) <> 0 or sum(duration_ms) <> 0;
        -- Other partitions have calls of its days only if one was attached by hand that does not begin at midnight.
        if first_moment > first_day or end_moment < last_day + 1 then
            insert into callstats.call_daily (organization_id, call_date, folder_id, agent_id, calls, duration_ms)
            select organization_id, call_date, folder_id, agent_id, count(*), sum(duration_ms)
            from callstats.call
            where call_date in (first_day, last_day)
              and call_date >= coalesce((select calls_kept_since from callstats.rollup_state), '-infinity')
            group by organization_id, call_date, folder_id, agent_id;
        end if;
    end if;
    return null;
end
$$;

-- A statement fires the triggers of the table that it names: callstats.call, or one of its partitions.
create or replace function callstats.install_rollup_triggers(calls regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    if exists (select from pg_trigger where tgname = 'call_roll_up_insert' and tgrelid = calls) then
        return;
    end if;
    execute format('create trigger call_roll_up_insert after insert on %s referencing new table as added
        for each statement execute function callstats.roll_up()', calls);
    execute format('create trigger call_roll_up_update after update on %s
        referencing new table as added old table as removed
        for each statement execute function callstats.roll_up()', calls);
    execute format('create trigger call_roll_up_delete after delete on %s referencing old table as removed
        for each statement execute function callstats.roll_up()', calls);
    execute format('create trigger call_roll_up_truncate after truncate on %s
        for each statement execute function callstats.roll_up()', calls);
end
$$;

create or replace function callstats.roll_up_from(calls regclass) returns void -- the name that the first version had
language sql set search_path = pg_catalog, pg_temp as 'select callstats.install_rollup_triggers(calls)';

-- Merges what was appended, a bounded step and a transaction at a time. It can run beside everything, also beside
-- itself, and be killed at any point: a step is one statement, which happens as a whole or not at all.
--
-- A procedure that commits cannot have a SET clause, and a setting of its own ends with each transaction: it is made
-- again after each COMMIT, before anything else is looked up by name.
create or replace procedure callstats.compact(step_rows int default 5000) language plpgsql as $$
declare
    organization int;
    day pg_catalog.date;
    merged bigint;
begin
    perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    for organization, day in select distinct organization_id, call_date from callstats.call_daily where is_delta loop
        loop
            begin
                with picked as materialized (
                    select ctid as place, folder_id, agent_id from callstats.call_daily
                    where is_delta and organization_id = organization and call_date = day
                    limit step_rows for update skip locked
                ), base as materialized (
                    select d.ctid as place from callstats.call_daily d
                    where not d.is_delta and d.organization_id = organization and d.call_date = day
                      and exists (select from picked p
                                  where p.folder_id = d.folder_id and p.agent_id is not distinct from d.agent_id)
                    for update skip locked
                ), removed as (
                    delete from callstats.call_daily
                    where ctid in (select place from picked union all select place from base)
                    returning folder_id, agent_id, calls, duration_ms
                ), added as (
                    insert into callstats.call_daily
                        (organization_id, call_date, folder_id, agent_id, calls, duration_ms, is_delta)
                    select organization, day, folder_id, agent_id, sum(calls), sum(duration_ms), false
                    from removed group by folder_id, agent_id
                    having sum(calls) <> 0 or sum(duration_ms) <> 0
                )
                select count(*) into merged from picked;
            exception when undefined_table then
                return; -- the rollup was removed meanwhile
            end;
            commit;
            perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
            exit when merged < step_rows;
        end loop;
    end loop;
end
$$;

-- A trigger fires for any role that writes calls; the role needs no privilege to execute its function.
revoke execute on function callstats.roll_up(), callstats.install_rollup_triggers(regclass),
    callstats.roll_up_from(regclass) from public;
revoke execute on procedure callstats.compact(int) from public;

do $$
declare
    missing regclass[] := array(
        select c.oid::regclass from pg_class c
        where (c.oid = 'callstats.call'::regclass
               or c.oid in (select inhrelid from pg_inherits where inhparent = 'callstats.call'::regclass))
          and not exists (select from pg_trigger where tgrelid = c.oid and tgname = 'call_roll_up_insert')
        order by c.oid <> 'callstats.call'::regclass, c.oid);
    calls regclass;
begin
    if cardinality(missing) > 0 then
        perform callstats.retry_on_lock('lock table callstats.call in share row exclusive mode');
        foreach calls in array missing loop
            perform callstats.install_rollup_triggers(calls);
        end loop;
    end if;
end
$$;
select callstats.give_to_owner() \g /dev/null
commit;

-- The calls from before: all calls less those that the rollup has, both in one snapshot. A change that this snapshot
-- does not see is added by its own trigger. The locks come before the snapshot: no partition leaves or is truncated
-- from then on, and only one of several runs at once does this. They block neither readers nor writers.
begin isolation level repeatable read;
lock table callstats.call in access share mode;
lock table callstats.call_daily in share update exclusive mode;
insert into callstats.call_daily (organization_id, call_date, folder_id, agent_id, calls, duration_ms, is_delta)
select organization_id, call_date, folder_id, agent_id, sum(calls), sum(duration_ms),
       -- Beside an existing row it is a delta, which compact() merges.
       bool_or(calls <= 0)
from (select organization_id, call_date, folder_id, agent_id, count(*) as calls, sum(duration_ms) as duration_ms
      from callstats.call group by organization_id, call_date, folder_id, agent_id
      union all
      select organization_id, call_date, folder_id, agent_id, -sum(calls), -sum(duration_ms)
      from callstats.call_daily group by organization_id, call_date, folder_id, agent_id) both_sides
where call_date >= coalesce((select calls_kept_since from callstats.rollup_state), '-infinity')
group by organization_id, call_date, folder_id, agent_id
having sum(calls) <> 0 or sum(duration_ms) <> 0
order by organization_id, call_date, folder_id, agent_id;
commit;
vacuum (analyze) callstats.call_daily;

begin;
select callstats.retry_on_lock('lock table only callstats.call in share update exclusive mode') \g /dev/null
select callstats.require_call_source('rollup.sql', array['rollup', 'calls']) \g /dev/null
do $$
begin
    -- Its "drop view" waits for readers, and lets others pass meanwhile. The definition of the first version, whose
    -- calls were int, is replaced as well.
    if (select query from callstats.call_source_kind())
       is distinct from (select query from callstats.shipped_call_source() where kind = 'rollup' limit 1) then
        perform callstats.replace_call_source('rollup');
    end if;
end
$$;
commit;
