-- The groups of folder $4 of organization $1 from day $2 to day $3, in the order of the index.
-- A statement of its own: made optional in the other one, the folder would be lost to the index.
select call_date, folder_id, agent_id collate "C" as agent_id,
       sum(calls)::bigint as calls, sum(duration_ms)::bigint as duration_ms
from callstats.call_source
where organization_id = $1::int and call_date between $2::date and $3::date and folder_id = $4::int
group by call_date, folder_id, agent_id collate "C"
order by call_date, folder_id, agent_id collate "C"
