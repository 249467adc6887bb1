-- The groups of folder $4 of organization $1 from day $2 to day $3, in the order of the index. It leaves out
-- the rows that organization_days.sql leaves out.
--
-- A statement of its own: with an optional parameter the planner cannot use folder_id as an index condition.
select call_date, folder_id::int as folder_id, agent_id collate "C" as agent_id,
       sum(calls)::bigint as calls, sum(duration_ms)::bigint as duration_ms
from callstats.call_source
where organization_id = $1::int and call_date between $2::date and $3::date and folder_id = $4::int
  and case when calls between -9223372036854774784 and 9223372036854774784
            and duration_ms between -9223372036854774784 and 9223372036854774784 then true end
group by call_date, folder_id, agent_id collate "C"
having sum(calls) between -9223372036854775807 and 9223372036854775807
   and sum(duration_ms) between -9223372036854775807 and 9223372036854775807
order by call_date, folder_id, agent_id collate "C"
