-- On each shard, after schema.sql (and rollup.sql, where there is one): what the coordinator of shards.sql asks. The sums
-- are made here; what crosses the network is one row for each group.
--
--   psql -X -v ON_ERROR_STOP=1 -d DATABASE -f shard.sql
--
-- Run it again after rollup.sql or rollup-remove.sql: they make callstats.call_source anew.

begin;
set local client_min_messages = warning;
drop view if exists callstats.call_summed;
create view callstats.call_summed as
    select organization_id, call_date, folder_id, agent_id, sum(calls)::bigint as calls, sum(duration_ms)::bigint as duration_ms
    from callstats.call_source
    group by organization_id, call_date, folder_id, agent_id;
grant select on callstats.call_summed to callstats_worker;
commit;
