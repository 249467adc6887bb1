-- Removes the rollup: call_source is made of the calls again.
--
--   psql -X -v ON_ERROR_STOP=1 -d DATABASE -f rollup-remove.sql
--
-- If partitions of calls were detached, their sums are only in the rollup, and this refuses to lose them. To lose them:
-- update callstats.rollup_state set calls_kept_since = null. It also stops if callstats.call_source is your own view.

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
declare
    kept_since date;
begin
    if to_regprocedure('callstats.require_call_source(text, text[])') is null then
        raise exception 'the schema callstats is older than this file' using hint = 'Run schema.sql first.';
    end if;
    perform callstats.retry_on_lock('lock table only callstats.call in share update exclusive mode');
    if to_regclass('callstats.call_daily') is null then
        return;
    elsif to_regclass('callstats.rollup_state') is null then
        raise exception 'the rollup is older than this file' using hint = 'Run rollup.sql first.';
    end if;
    perform callstats.require_call_source('rollup-remove.sql', array['calls', 'rollup']);
    select calls_kept_since into kept_since from callstats.rollup_state;
    if kept_since is not null then
        raise exception 'the sums of days before % are only in the rollup', kept_since
            using hint = 'To lose them: update callstats.rollup_state set calls_kept_since = null.';
    end if;
    perform callstats.replace_call_source('calls', 'lock table callstats.call in access exclusive mode',
        'drop function callstats.roll_up() cascade', -- with the triggers that call it, wherever they are
        'drop view if exists callstats.raw_calls', 'drop table callstats.call_daily, callstats.rollup_state');
end
$$;
drop procedure if exists callstats.compact(int);
drop function if exists callstats.roll_up_from(regclass);
drop function if exists callstats.install_rollup_triggers(regclass);
commit;
