-- Adopting the table of call detail records of Asterisk (cdr_pgsql, cdr_odbc). Run schema.sql first, then this file, as a
-- role that may read the table:
--
--   psql -X -v ON_ERROR_STOP=1 -v cdr=public.cdr -v company=pbx -v time_zone=Europe/Berlin -d DATABASE -f asterisk-cdr.sql
--
-- What becomes what: all is one company; accountcode is the organization, dcontext the folder, the name of the answering
-- channel (SIP/anna-00000a1b: anna) the agent. Answered calls count, with the seconds that were talked (billsec).
-- calldate is Asterisk's local time, which is the time zone of the organizations.
--
-- Run it again, or `select callstats.adopt_names()`, when there are new account codes or contexts: until then their calls
-- are left out.

\if :{?cdr}
\else
    \set cdr public.cdr
\endif
\if :{?company}
\else
    \set company pbx
\endif
\if :{?time_zone}
\else
    \set time_zone UTC
\endif
-- The table is looked up once, by the search path of this session; from then on nothing else is.
select pg_catalog.format('%I.%I', n.nspname, c.relname) as cdr
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace
where c.oid operator(pg_catalog.=) pg_catalog.to_regclass(:'cdr') \gset
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

create or replace view callstats.adopted as
    select :'company'::text as company,
           :'time_zone'::text as time_zone,
           coalesce(nullif(accountcode, ''), 'default') as organization,
           coalesce(nullif(dcontext, ''), 'default') as folder,
           substring(dstchannel from '^[^/]+/(.+?)(-[0-9a-f]{8})?(;[12])?$') as agent,
           calldate as started,
           billsec as seconds
    from :cdr
    where disposition = 'ANSWERED' and billsec >= 0;

create or replace function callstats.adopt_names() returns void
language sql set search_path = pg_catalog, pg_temp as $$
    insert into callstats.company (short_name) select distinct company from callstats.adopted on conflict do nothing;
    insert into callstats.organization (company_id, short_name, time_zone)
        select distinct c.id, a.organization, a.time_zone
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
           a.started::date as call_date,
           f.id as folder_id,
           nullif(a.agent, '') collate "C" as agent_id,
           1 as calls,
           a.seconds::bigint * 1000 as duration_ms
    from callstats.adopted a
    join callstats.company c on c.short_name = a.company
    join callstats.organization o on o.company_id = c.id and o.short_name = a.organization
    join callstats.folder f on f.organization_id = o.id and f.name = a.folder;
grant select on callstats.call_source to callstats_worker;

commit;

-- With this index PostgreSQL reads the calls of one organization, and not all; what it cannot do is to read only those
-- of some days, in order, as `callstats check` says. That takes calls in callstats.call.
\echo create index concurrently on :cdr (accountcode, dcontext);
