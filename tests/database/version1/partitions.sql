-- Months: keeps callstats.call partitioned by the month of started_at, on PostgreSQL's own partitioning.
--
--   psql -X -v ON_ERROR_STOP=1 -d DATABASE -f partitions.sql
--
-- Run it once. It converts the table that is there without copying it: what it holds becomes the first partition,
-- callstats.call_before, up to the end of the month of its last call or of today, whichever is later. For that it locks
-- the table while it reads it once: choose a quiet hour. Calls for which there is no month are refused, so let the months
-- to come be made every day, by deploy/systemd/callstats-months.timer or with pg_cron; callstats check looks after them:
--
--   select cron.schedule('callstats months', '30 3 * * *', 'select callstats.make_months(3)')
--
-- And to take months away, when you want to:
--
--   select callstats.detach_before('2025-01-01')    -- the partitions that end by then leave callstats.call
--
-- What was detached is a table of its own, to archive or to drop. With the rollup its sums stay in the answers, and
-- callstats.raw_calls says since when there are calls; without the rollup they are gone. An id is unique within its
-- partition and organization, and by its sequence.

set client_min_messages = warning;
begin;

create or replace function callstats.month_partitions(out name regclass, out ends date) returns setof record
language sql stable set search_path = pg_catalog, pg_temp as $$
    select c.oid::regclass, substring(pg_get_expr(c.relpartbound, c.oid) from 'TO \(''([0-9-]+)')::date
    from pg_inherits i join pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'callstats.call'::regclass
    order by 2
$$;

create or replace function callstats.make_months(ahead int default 3) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    first timestamp := coalesce((select max(ends) from callstats.month_partitions()), date_trunc('month', now()::timestamp));
    month timestamp;
    partition text;
begin
    for month in
        select generate_series(first, date_trunc('month', now()::timestamp) + ahead * interval '1 month', interval '1 month')
    loop
        partition := to_char(month, '"callstats.call_"YYYY_MM');
        execute format('create table %s partition of callstats.call for values from (%L) to (%L)',
            partition, month, month + interval '1 month');
        execute format('create unique index on %s (organization_id, id)', partition);
        if to_regprocedure('callstats.roll_up_from(regclass)') is not null then
            perform callstats.roll_up_from(partition::regclass);
        end if;
    end loop;
end
$$;

create or replace function callstats.detach_before(day date) returns int
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    old record;
    roll_up name;
    detached int := 0;
begin
    for old in select name, ends from callstats.month_partitions() where ends <= day loop
        execute format('alter table callstats.call detach partition %s', old.name);
        detached := detached + 1;
        for roll_up in select tgname from pg_trigger where tgrelid = old.name and tgname ~ '^call_roll_up_' loop
            execute format('drop trigger %I on %s', roll_up, old.name);
        end loop;
        if to_regclass('callstats.raw_calls') is not null then
            update callstats.raw_calls set since = greatest(since, old.ends);
        end if;
    end loop;
    return detached;
end
$$;

do $$
declare
    next_month timestamp;
    made record;
    definitions text[];
    definition text;
    source text := pg_get_viewdef('callstats.call_source'::regclass);
begin
    if (select relkind from pg_class where oid = 'callstats.call'::regclass) = 'p' then
        return;
    end if;
    lock table callstats.call in access exclusive mode;
    select date_trunc('month', greatest(max(started_at), now()::timestamp)) + interval '1 month' into next_month
    from callstats.call;

    -- What names the table goes, and is made again for the new one.
    for made in
        select tgname, pg_get_triggerdef(oid) as definition from pg_trigger
        where tgrelid = 'callstats.call'::regclass and not tgisinternal
    loop
        definitions := definitions || made.definition;
        execute format('drop trigger %I on callstats.call', made.tgname);
    end loop;
    if source ~ 'FROM callstats\.call;' then
        drop view callstats.call_source;
    end if;
    alter table callstats.call rename to call_before;
    alter index callstats.call_group rename to call_before_group;
    alter table callstats.call_before alter column id drop identity;
    create sequence callstats.call_number;
    perform setval('callstats.call_number', coalesce((select max(id) from callstats.call_before), 0) + 1, false);

    create table callstats.call (like callstats.call_before including constraints including comments)
        partition by range (started_at);
    alter table callstats.call alter column id set default nextval('callstats.call_number');
    alter table callstats.call_before alter column id set default nextval('callstats.call_number');
    alter sequence callstats.call_number owned by callstats.call.id;
    alter table callstats.call add foreign key (organization_id, folder_id) references callstats.folder (organization_id, id);
    create index call_group on callstats.call (organization_id, call_date, folder_id, agent_id) include (duration_ms);
    foreach definition in array definitions loop
        execute definition;
    end loop;
    execute format('alter table callstats.call attach partition callstats.call_before for values from (minvalue) to (%L)',
        next_month);
    if to_regprocedure('callstats.roll_up_from(regclass)') is not null then
        perform callstats.roll_up_from('callstats.call_before');
    end if;
    if source ~ 'FROM callstats\.call;' then
        execute 'create view callstats.call_source as ' || source;
        grant select on callstats.call_source to callstats_worker;
    end if;
end
$$;
select callstats.make_months(3) \g /dev/null
commit;
