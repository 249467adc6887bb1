-- Adopting a flat table of calls: names of company, organization and folder as text in each row, starts with a time
-- zone, durations in seconds. Run schema.sql first, then this file, as a role that may read the table:
--
--   psql -X -v ON_ERROR_STOP=1 -v calls=public.calls -d DATABASE -f flat.sql
--
-- The table is expected to have: company text, organization text, folder text, agent text, started timestamptz,
-- seconds numeric. CHANGE the two places below where yours has other names.
--
-- Run it again, or `select callstats.adopt_names()`, when there are new names: until then their calls are left out.
-- Give new organizations their time zone: update callstats.organization set time_zone = ... where short_name = ...

\if :{?calls}
\else
    \set calls public.calls
\endif
begin;
set local client_min_messages = warning;

-- The table, with the names that are used below.
create or replace view callstats.adopted as
    select company, organization, folder, agent, started, seconds -- CHANGE
    from :calls
    where seconds >= 0;

create or replace function callstats.adopt_names() returns void language sql set search_path = pg_catalog, pg_temp as $$
    insert into callstats.company (short_name) select distinct company from callstats.adopted on conflict do nothing;
    insert into callstats.organization (company_id, short_name)
        select distinct c.id, a.organization
        from callstats.adopted a join callstats.company c on c.short_name = a.company
        on conflict do nothing;
    insert into callstats.folder (organization_id, name)
        select distinct o.id, a.folder
        from callstats.adopted a
        join callstats.company c on c.short_name = a.company
        join callstats.organization o on o.company_id = c.id and o.short_name = a.organization
        on conflict do nothing;
$$;
select callstats.adopt_names() \g /dev/null

drop view if exists callstats.call_source;
create view callstats.call_source as
    select o.id as organization_id,
           (a.started at time zone o.time_zone)::date as call_date,
           f.id as folder_id,
           nullif(a.agent, '') collate "C" as agent_id,
           1 as calls,
           round(a.seconds * 1000)::bigint as duration_ms
    from callstats.adopted a
    join callstats.company c on c.short_name = a.company
    join callstats.organization o on o.company_id = c.id and o.short_name = a.organization
    join callstats.folder f on f.organization_id = o.id and f.name = a.folder;
grant select on callstats.call_source to callstats_worker;

commit;

-- With this index PostgreSQL reads the calls of one organization, and not all; what it cannot do is to read only those
-- of some days, in order, as `callstats check` says. That takes calls in callstats.call, or the rollup.
\echo create index concurrently on :calls (company, organization, folder);
