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
begin;
set local client_min_messages = warning;

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

create or replace function callstats.adopt_names() returns void language sql set search_path = pg_catalog, pg_temp as $$
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
-- of some days, in order, as `callstats check` says. That takes calls in callstats.call, or the rollup.
\echo create index concurrently on :cdr (accountcode, dcontext);
