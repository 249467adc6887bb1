-- callstats: the objects that adopted tables need. `callstats adopt on` runs this file by itself.
--
--   psql -X -v ON_ERROR_STOP=1 -d DATABASE -f adopt.sql
--
-- Run schema.sql first. Safe to run again. callstats.calls_between(), which the worker reads while a mapping is on, is
-- generated from the mappings by `callstats adopt`, and is not here.

begin;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;
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

-- The mappings that are on. The expressions are SQL over the columns of the relation.
create table if not exists callstats.source (
    name text primary key,
    id int generated always as identity unique,
    mapping text not null,
    added_at timestamptz not null default now(),
    synced_at timestamptz,
    searched_at timestamptz,
    granted text[] not null default '{}',
    left_out jsonb,
    summed_from date,
    summed_until date,
    summed_zones jsonb,
    compared_since timestamptz,
    changes_read_at timestamptz,
    constraint source_name_is_simple check (name ~ '^[a-z0-9_-]{1,63}$')
);
-- Answers read this table: ALTER TABLE would wait for them, and others for it, also where the column exists.
do $$
begin
    if not exists (select from pg_attribute where attrelid = 'callstats.source'::regclass and attname = 'advice') then
        alter table callstats.source add column advice text[] not null default '{}';
    end if;
    if not exists (select from pg_attribute where attrelid = 'callstats.source'::regclass and attname = 'types') then
        alter table callstats.source add column types jsonb, add column warnings text[] not null default '{}';
    end if;
end
$$;
comment on column callstats.source.advice is 'Statements that create better indexes, each with what it is good for';
comment on column callstats.source.types is 'The types by which start and duration, and names if it matters, are read';
comment on column callstats.source.warnings is 'What can make answers other than expected, for status and check';
comment on column callstats.source.mapping is 'TOML: preset, file and options of `callstats adopt on`, merged';
comment on column callstats.source.synced_at is 'When new names were last looked for';
comment on column callstats.source.searched_at is 'When they were last looked for in all rows, old ones included';
comment on column callstats.source.granted is 'Statements that revoke what the worker was granted for it';
comment on column callstats.source.left_out is 'Rows of the last days that do not count, by reason';
comment on column callstats.source.summed_from is 'The first day that is answered from callstats.source_day';
comment on column callstats.source.summed_until is 'The first day after the last one that is';
comment on column callstats.source.summed_zones is 'The time zone of each organization when the days were summed';
comment on column callstats.source.compared_since is 'Since when each of those days was compared with its rows';
comment on column callstats.source.changes_read_at is 'Up to when changed rows were looked for';

-- Daily sums of the mappings that have a horizon. `callstats adopt sync` writes them, and compares them with the rows.
-- Without foreign keys, which cost more than all else of a row; the triggers below do what these would do.
create table if not exists callstats.source_day (
    organization_id int not null,
    call_date date not null,
    folder_id int not null,
    agent_id text collate "C",
    source_id int not null,
    calls bigint not null,
    duration_ms bigint not null
);
-- CREATE INDEX would keep writers of sums waiting for `callstats adopt sync`, also where the index exists.
do $$
begin
    if to_regclass('callstats.source_day_key') is null then
        create unique index source_day_key on callstats.source_day
            (organization_id, call_date, folder_id, agent_id, source_id) include (calls, duration_ms);
    end if;
    if to_regclass('callstats.source_day_by_source') is null then
        create index source_day_by_source on callstats.source_day (source_id, call_date);
    end if;
end
$$;

-- Sums go with their folder, and so with its organization, and with their mapping. Runs as the owner of the schema,
-- because who may delete a folder need not have a privilege on sums.
create or replace function callstats.delete_source_days() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if tg_relid not in ('callstats.folder'::regclass, 'callstats.source'::regclass)
       or tg_op not in ('DELETE', 'TRUNCATE') then
        raise exception 'callstats.delete_source_days is for what leaves callstats.folder and callstats.source, '
                'not for % of %', tg_op, tg_relid::regclass
            using errcode = 'insufficient_privilege', hint = format('Drop the trigger %I.', tg_name);
    end if;
    if tg_op = 'TRUNCATE' then
        delete from callstats.source_day;
    elsif tg_relid = 'callstats.folder'::regclass then
        delete from callstats.source_day d using removed r
        where d.organization_id = r.organization_id and d.folder_id = r.id;
    else
        delete from callstats.source_day d using removed r where d.source_id = r.id;
    end if;
    return null;
end
$$;

do $$
declare
    followed regclass;
    old_keys text;
begin
    foreach followed in array array['callstats.folder', 'callstats.source']::regclass[] loop
        if not exists (select from pg_trigger where tgname = 'source_day_on_delete' and tgrelid = followed) then
            perform callstats.retry_on_lock(format('lock table %s in share row exclusive mode', followed));
            execute format('create trigger source_day_on_delete after delete on %s referencing old table as removed
                for each statement execute function callstats.delete_source_days()', followed);
            execute format('create trigger source_day_on_truncate before truncate on %s
                for each statement execute function callstats.delete_source_days()', followed);
        end if;
    end loop;
    select string_agg(format('drop constraint %I', conname), ', ') into old_keys from pg_constraint
    where conrelid = 'callstats.source_day'::regclass and contype = 'f';
    if old_keys is not null then
        perform callstats.retry_on_lock('alter table callstats.source_day ' || old_keys);
    end if;
end
$$;

-- The rows that the last look for changes has seen, by day in UTC and by the minute in which they were changed. Looks
-- overlap, because a transaction of the site can commit late; a day is compared again only if these differ.
create table if not exists callstats.source_change (
    source_id int not null references callstats.source (id) on delete cascade,
    call_date date not null,
    changed_at timestamptz not null,
    seen text not null,
    primary key (source_id, call_date, changed_at)
);
comment on column callstats.source_change.seen is 'How many rows they are, and the sum of when each was changed';

-- When each of those days was last compared with the rows of the table.
create table if not exists callstats.source_checked (
    source_id int not null references callstats.source (id) on delete cascade,
    call_date date not null,
    checked_at timestamptz not null,
    primary key (source_id, call_date)
);
do $$
begin
    if to_regclass('callstats.source_checked_by_age') is null then
        create index source_checked_by_age on callstats.source_checked (source_id, checked_at, call_date);
    end if;
end
$$;

-- The days of a zone as instants. A date can be interrupted (St. John's went from 00:01 back to 23:01 of the day
-- before) and can be missing (Apia had no 30 December 2011: an empty range).
create table if not exists callstats.zone_day (
    time_zone text collate "C" not null,
    call_date date not null,
    starts timestamptz not null,
    ends timestamptz not null,
    is_whole boolean not null,
    primary key (time_zone, call_date) include (starts, ends, is_whole)
);
comment on column callstats.zone_day.starts is 'The first instant whose local date it is';
comment on column callstats.zone_day.ends is 'The first instant after the last one whose local date it is';
comment on column callstats.zone_day.is_whole is 'Each instant between them has that date';

-- A name as callstats.company, organization and folder can store it: none is "(none)", control characters are "?", and
-- up to 1000 bytes are kept.
create or replace function callstats.adopted_name(name text) returns text
language sql immutable parallel safe as $$
    select case when name is null or name = '' then '(none)'
                when octet_length(name) > 1000 then left(regexp_replace(name, '[[:cntrl:]]', '?', 'g'), 250)
                else regexp_replace(name, '[[:cntrl:]]', '?', 'g') end collate "C"
$$;

-- Writes the days of a zone from 1970 to 2100, by the changes of clocks that this server knows. Offsets are compared
-- from day to day; where they differ, the change is found to the second.
create or replace function callstats.fill_zone_day(zone text) returns void
language sql set search_path = pg_catalog, pg_temp set timezone = 'UTC' set jit = off as $$
    delete from callstats.zone_day where time_zone = zone;
    with sampled as (
        select day, (day at time zone zone) - (day at time zone 'UTC') as utc_offset
        from generate_series(timestamptz '1969-12-30 00:00Z', timestamptz '2101-01-03 00:00Z', interval '1 day') day
    ), changed as (
        select day, utc_offset, lag(utc_offset) over (order by day) as before from sampled
    ), minutes as (
        select minute, (minute at time zone zone) - (minute at time zone 'UTC') as utc_offset,
               lag((minute at time zone zone) - (minute at time zone 'UTC')) over (partition by c.day order by minute)
                   as before
        from changed c,
             generate_series(c.day - interval '1 day', c.day, interval '1 minute') minute
        where c.utc_offset <> c.before
    ), seconds as (
        select second, (second at time zone zone) - (second at time zone 'UTC') as utc_offset,
               lag((second at time zone zone) - (second at time zone 'UTC')) 
                   over (partition by m.minute order by second)
                   as before
        from minutes m,
             generate_series(m.minute - interval '1 minute', m.minute, interval '1 second') second
        where m.utc_offset <> m.before
    ), changes as (
        select second as starts, utc_offset from seconds where utc_offset <> before
        union all
        (select day, utc_offset from sampled order by day limit 1)
    ), stretches as (
        select starts, lead(starts, 1, timestamptz '2101-01-03 00:00Z') over (order by starts) as ends, utc_offset
        from changes
    ), pieces as (
        select d::date as call_date,
               greatest(s.starts, (d - s.utc_offset) at time zone 'UTC') as starts,
               least(s.ends, (d + interval '1 day' - s.utc_offset) at time zone 'UTC') as ends
        from stretches s,
             generate_series(date_trunc('day', s.starts at time zone 'UTC' + s.utc_offset),
                             s.ends at time zone 'UTC' + s.utc_offset, interval '1 day') d
    ), days as (
        select call_date, min(starts) as starts, max(ends) as ends,
               sum(ends - starts) = max(ends) - min(starts) as whole
        from pieces where starts < ends group by call_date
    )
    insert into callstats.zone_day (time_zone, call_date, starts, ends, is_whole)
    select zone, call_date, starts, ends, whole from days
    where call_date between date '1970-01-01' and date '2100-12-31'
    union all
    select zone, missing::date, gap.ends, gap.ends, true
    from (select call_date, ends, lead(call_date) over (order by call_date) as next from days) gap,
         generate_series(gap.call_date + 1, gap.next - 1, interval '1 day') missing
    where gap.next > gap.call_date + 1
    on conflict (time_zone, call_date) do nothing; -- somebody else writes the same zone just now
$$;

-- The zones in use whose days are missing, or not those of this server any more.
create or replace function callstats.fill_zone_days(and_compare boolean) returns int
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    zone text;
    filled int := 0;
begin
    for zone in
        select distinct o.time_zone from callstats.organization o
        where not exists (select from callstats.zone_day d where d.time_zone = o.time_zone)
           or and_compare and exists (
               select from callstats.zone_day d
               where d.time_zone = o.time_zone and d.starts < d.ends
                 and ((d.starts at time zone o.time_zone)::date <> d.call_date
                      or ((d.starts - interval '1 microsecond') at time zone o.time_zone)::date = d.call_date
                      or ((d.ends - interval '1 microsecond') at time zone o.time_zone)::date <> d.call_date))
        order by 1
    loop
        perform callstats.fill_zone_day(zone);
        filled := filled + 1;
    end loop;
    if filled > 0 then
        analyze callstats.zone_day; -- the planner has to know that a range has many days
    end if;
    return filled;
end
$$;

-- Forgets the sums of mappings that were summed while an organization had another zone: days end at other moments then,
-- and their rows are read until `callstats adopt sync` has summed them again. First the mappings are locked, so that a
-- command that writes sums just now is done.
create or replace function callstats.forget_outdated_sums() returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    outdated int[];
begin
    perform from callstats.source order by id for update;
    select array_agg(s.id) into outdated from callstats.source s
    where s.summed_from is not null and exists (
        select from callstats.organization o
        where s.summed_zones ->> o.id::text is distinct from o.time_zone and s.summed_zones ? o.id::text);
    if outdated is not null then
        delete from callstats.source_day where source_id = any (outdated);
        delete from callstats.source_checked where source_id = any (outdated);
        update callstats.source set summed_from = null, summed_until = null, compared_since = null
        where id = any (outdated);
    end if;
end
$$;

-- Answers follow the zone of an organization as soon as it is another one. Runs as the owner of the schema, because who
-- may change an organization need not have a privilege on sums.
create or replace function callstats.follow_time_zone() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if tg_relid <> 'callstats.organization'::regclass or tg_when <> 'AFTER' or tg_op not in ('INSERT', 'UPDATE') then
        raise exception 'callstats.follow_time_zone is for zones of callstats.organization, not for % % of %', tg_when,
                tg_op, tg_relid::regclass
            using errcode = 'insufficient_privilege', hint = format('Drop the trigger %I.', tg_name);
    end if;
    if exists (select from callstats.source) then
        if tg_op = 'UPDATE' then
            -- In the order of `callstats adopt sync`: its comments on zone_day lock that first, then the mappings.
            lock table callstats.zone_day in share update exclusive mode;
            perform callstats.forget_outdated_sums();
        end if;
        perform callstats.fill_zone_days(false);
    end if;
    return null;
end
$$;
do $$
begin
    if not exists (select from pg_trigger where tgname = 'follow_time_zone'
                   and tgrelid = 'callstats.organization'::regclass) then
        perform callstats.retry_on_lock('lock table callstats.organization in share row exclusive mode');
        create trigger follow_time_zone after insert or update of time_zone on callstats.organization
            for each statement execute function callstats.follow_time_zone();
    end if;
end
$$;

-- For callstats.calls_between(): an error if the arguments are of two types. It never runs, because it is inlined.
create or replace function callstats.has_type(value anyelement, expected anyelement) returns boolean
language sql immutable parallel safe as $$ select true $$;

revoke all on callstats.source, callstats.zone_day, callstats.source_day, callstats.source_checked,
    callstats.source_change from public;
revoke execute on function callstats.adopted_name(text), callstats.fill_zone_day(text),
    callstats.fill_zone_days(boolean), callstats.delete_source_days(), callstats.forget_outdated_sums(),
    callstats.follow_time_zone(), callstats.has_type(anyelement, anyelement) from public;
grant select on callstats.zone_day, callstats.source, callstats.source_day to callstats_worker;
grant execute on function callstats.adopted_name(text),
    callstats.has_type(anyelement, anyelement) to callstats_worker;
do $$ begin perform callstats.give_to_owner(); end $$;

commit;
