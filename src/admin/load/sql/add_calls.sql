-- Calls that are not there yet, in the order of the index of groups.
insert into callstats.call (organization_id, folder_id, agent_id, started_at, call_date, duration_ms, external_id)
select organization_id, folder_id, agent, started_at, started_at::date, duration_ms, call
from pg_temp.callstats_compared
where id is null
order by organization_id, started_at::date
