-- What the calls are like: those of a folder, an agent and an hour together.
select organization_id, folder, agent, date_trunc('hour', started_at) as started_at, count(*) as calls,
       sum(duration_ms)::bigint as milliseconds
from pg_temp.callstats_compared
group by organization_id, folder, agent, date_trunc('hour', started_at)
