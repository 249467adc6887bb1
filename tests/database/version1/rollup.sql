-- The rollup: daily sums in callstats.call_daily, exact to the last committed call, in place of the calls behind
-- call_source. An answer then costs what it has entries, however many calls are behind them.
--
--   psql -X -v ON_ERROR_STOP=1 -d DATABASE -f rollup.sql
--
-- Writers append: a statement that changes calls adds one row for each group that it touches, positive or negative. No
-- row of the rollup is ever waited for, so nobody deadlocks over it. callstats.compact() merges those rows; let it run
-- every few minutes, by deploy/systemd/callstats-compact.timer or with pg_cron:
--
--   select cron.schedule('callstats', '*/5 * * * *', 'call callstats.compact()')
--
-- Writers are blocked for less than two seconds while the triggers are made; filling in what is there already takes
-- longer and blocks nobody. Safe to run again: then it checks the sums, and mends them where triggers were disabled or
-- a table was attached as a month by hand.

set client_min_messages = warning;
begin;

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
create index if not exists call_daily_group on callstats.call_daily (organization_id, call_date, folder_id, agent_id)
    include (calls, duration_ms);
create index if not exists call_daily_delta on callstats.call_daily (organization_id, call_date) where is_delta;
-- Merging leaves dead rows; few of them are worth a vacuum, which also keeps index-only scans what they are.
alter table callstats.call_daily set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.02);

-- Since when there are calls to check the sums against; null: all of them are there.
create table if not exists callstats.raw_calls (
    only_row boolean primary key default true check (only_row),
    since date
);
insert into callstats.raw_calls default values on conflict do nothing;

create or replace function callstats.roll_up() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp set work_mem = '64MB' as $$
begin
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
    -- Of one month: the days that have no calls left. A snapshot from before still has their sums, and finds no calls:
    -- TRUNCATE is not MVCC-safe.
    elsif (select relispartition from pg_class where oid = tg_relid) then
        delete from callstats.call_daily d
        where call_date >= coalesce((select since from callstats.raw_calls), '-infinity')
          and not exists (select from callstats.call c where c.organization_id = d.organization_id and c.call_date = d.call_date);
    -- Sums of months whose calls were dropped stay.
    elsif exists (select from callstats.raw_calls where since is not null) then
        delete from callstats.call_daily where call_date >= (select since from callstats.raw_calls);
    else
        truncate callstats.call_daily; -- seen by every snapshot at once, as TRUNCATE of the calls is
    end if;
    return null;
end
$$;

-- A statement fires the triggers of the table that it names: callstats.call, or one of its months.
create or replace function callstats.roll_up_from(calls regclass) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    if exists (select from pg_trigger where tgname = 'call_roll_up_insert' and tgrelid = calls) then
        return;
    end if;
    execute format('create trigger call_roll_up_insert after insert on %s referencing new table as added
        for each statement execute function callstats.roll_up()', calls);
    execute format('create trigger call_roll_up_update after update on %s referencing new table as added old table as removed
        for each statement execute function callstats.roll_up()', calls);
    execute format('create trigger call_roll_up_delete after delete on %s referencing old table as removed
        for each statement execute function callstats.roll_up()', calls);
    execute format('create trigger call_roll_up_truncate after truncate on %s
        for each statement execute function callstats.roll_up()', calls);
end
$$;

-- Merges what was appended, a bounded step and a transaction at a time. It can run beside everything, also beside
-- itself, and be killed at any point: a step is one statement, which happens as a whole or not at all.
create or replace procedure callstats.compact(step_rows int default 5000) language plpgsql as $$
declare
    day record;
    merged bigint;
begin
    for day in select distinct organization_id, call_date from callstats.call_daily where is_delta loop
        loop
            with picked as materialized (
                select ctid as place, folder_id, agent_id from callstats.call_daily
                where is_delta and organization_id = day.organization_id and call_date = day.call_date
                limit step_rows for update skip locked
            ), base as materialized (
                select d.ctid as place from callstats.call_daily d
                where not d.is_delta and d.organization_id = day.organization_id and d.call_date = day.call_date
                  and exists (select from picked p where p.folder_id = d.folder_id and p.agent_id is not distinct from d.agent_id)
                for update skip locked
            ), removed as (
                delete from callstats.call_daily
                where ctid in (select place from picked union all select place from base)
                returning folder_id, agent_id, calls, duration_ms
            ), added as (
                insert into callstats.call_daily
                    (organization_id, call_date, folder_id, agent_id, calls, duration_ms, is_delta)
                select day.organization_id, day.call_date, folder_id, agent_id, sum(calls), sum(duration_ms), false
                from removed group by folder_id, agent_id
                having sum(calls) <> 0 or sum(duration_ms) <> 0
            )
            select count(*) into merged from picked;
            commit;
            exit when merged < step_rows;
        end loop;
    end loop;
end
$$;

-- A lock that cannot be had within 1.5 seconds is given up for a while, for writers queue behind it; for longer each
-- time, so that those of a site with long transactions are not blocked most of the time.
do $$
declare
    pause int := 1;
begin
    perform set_config('lock_timeout', '1500ms', true);
    loop
        begin
            lock table callstats.call in share row exclusive mode;
            exit;
        exception when lock_not_available then
            raise warning 'waiting for a moment without transactions that have written calls for more than 1.5 s; writing now: %',
                (select string_agg(distinct pid::text, ', ') from pg_locks
                 where relation = 'callstats.call'::regclass and granted and mode <> 'AccessShareLock')
                using hint = 'select * from pg_stat_activity tells what they are.';
            perform pg_sleep(pause);
            pause := least(pause * 2, 15);
        end;
    end loop;
    perform callstats.roll_up_from('callstats.call'),
            (select count(callstats.roll_up_from(inhrelid)) from pg_inherits where inhparent = 'callstats.call'::regclass);
end
$$;
commit;

-- What was there before: the calls less what the rollup has of them, both as one snapshot sees them. A change that this
-- snapshot does not see adds itself.
begin isolation level repeatable read;
insert into callstats.call_daily (organization_id, call_date, folder_id, agent_id, calls, duration_ms, is_delta)
select organization_id, call_date, folder_id, agent_id, sum(calls), sum(duration_ms),
       -- Beside a row that is there already it is one more to merge.
       bool_or(calls <= 0)
from (select organization_id, call_date, folder_id, agent_id, count(*) as calls, sum(duration_ms) as duration_ms
      from callstats.call group by organization_id, call_date, folder_id, agent_id
      union all
      select organization_id, call_date, folder_id, agent_id, -sum(calls), -sum(duration_ms)
      from callstats.call_daily group by organization_id, call_date, folder_id, agent_id) both_sides
where call_date >= coalesce((select since from callstats.raw_calls), '-infinity')
group by organization_id, call_date, folder_id, agent_id
having sum(calls) <> 0 or sum(duration_ms) <> 0
order by organization_id, call_date, folder_id, agent_id;
commit;
vacuum (analyze) callstats.call_daily;

-- Readers of the view that take longer than a moment are waited for in the same way.
begin;
do $$
begin
    perform set_config('lock_timeout', '500ms', true);
    loop
        begin
            drop view if exists callstats.call_source;
            exit;
        exception when lock_not_available then
            perform pg_sleep(1);
        end;
    end loop;
end
$$;
create view callstats.call_source as
    -- Sums of int are much cheaper than those of bigint; no group has two billion calls on a day.
    select organization_id, call_date, folder_id, agent_id, calls::int as calls, duration_ms from callstats.call_daily;
grant select on callstats.call_source to callstats_worker;
commit;
