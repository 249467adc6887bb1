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
-- The table is looked up once, by the search path of this session; from then on nothing else is.
select pg_catalog.format('%I.%I', n.nspname, c.relname) as calls
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace
where c.oid operator(pg_catalog.=) pg_catalog.to_regclass(:'calls') \gset
set search_path = pg_catalog, pg_temp;
begin;
set local client_min_messages = warning;
-- Whoever owns something in this schema can have code of theirs run by those who use it: it must be somebody trusted.
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
declare
    dependents text;
begin
    if to_regprocedure('callstats.require_call_source(text, text[])') is null then
        raise exception 'the schema callstats is older than this file' using hint = 'Run schema.sql first.';
    end if;
    perform callstats.retry_on_lock('lock table only callstats.call in share update exclusive mode');
    if not exists (select from pg_depend d join pg_rewrite r on r.oid = d.objid
                   where r.ev_class = to_regclass('callstats.call_source')
                     and d.refobjid = to_regclass('callstats.adopted')) then
        perform callstats.require_call_source('adoption', array['calls']);
        if to_regclass('callstats.call_source') is not null and exists (select from callstats.call) then
            raise exception 'adoption stops: callstats.call has calls, which would be in no answer any more'
                using hint = 'Load the calls of the other table instead. If nobody needs those that are there: '
                    'truncate callstats.call';
        end if;
    end if;
    dependents := callstats.dependents_of(to_regclass('callstats.call_source'));
    if dependents is not null then
        raise exception 'adoption stops: callstats.call_source is used by %', dependents
            using hint = 'Drop it, run this file, and create it again.';
    end if;
end
$$;

-- The table, with the names that are used below.
create or replace view callstats.adopted as
    select company, organization, folder, agent, started, seconds -- CHANGE
    from :calls
    where seconds between 0 and 1000000000; -- neither NaN nor infinity

create or replace function callstats.adopt_names() returns void
language sql set search_path = pg_catalog, pg_temp as $$
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
revoke execute on function callstats.adopt_names() from public;
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
-- of some days, in order, as `callstats check` says. That takes calls in callstats.call.
\echo create index concurrently on :calls (company, organization, folder);
