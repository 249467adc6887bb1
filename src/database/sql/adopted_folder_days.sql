-- The groups of folder $4 of organization $1 from day $2 to day $3, those of adopted tables included.
select call_date, folder_id, agent_id collate "C" as agent_id,
       sum(calls)::bigint as calls, sum(duration_ms)::bigint as duration_ms
from callstats.calls_between($1::int, $2::date, $3::date)
where folder_id = $4::int
group by call_date, folder_id, agent_id collate "C"
order by call_date, folder_id, agent_id collate "C"
