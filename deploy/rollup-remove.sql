-- Takes the rollup back: call_source is made of the calls again.
--
--   psql -X -v ON_ERROR_STOP=1 -d DATABASE -f rollup-remove.sql
--
-- Where months of calls were dropped, their sums are only in the rollup, and this refuses to lose them. To lose them:
-- update callstats.raw_calls set since = null.

set client_min_messages = warning;
begin;
do $$
begin
    if exists (select from callstats.raw_calls where since is not null) then
        raise exception 'the sums of days before % are only in the rollup', (select since from callstats.raw_calls)
            using hint = 'To lose them: update callstats.raw_calls set since = null.';
    end if;
end
$$;
set local lock_timeout = '2s';
drop view if exists callstats.call_source;
create view callstats.call_source as
    select organization_id, call_date, folder_id, agent_id, 1 as calls, duration_ms from callstats.call;
grant select on callstats.call_source to callstats_worker;
drop procedure if exists callstats.compact(int);
drop function if exists callstats.roll_up_from(regclass);
drop function if exists callstats.roll_up() cascade; -- with the triggers that call it, wherever they are
drop table if exists callstats.call_daily, callstats.raw_calls;
commit;
