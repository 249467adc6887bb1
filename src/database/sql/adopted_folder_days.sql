-- The groups of folder $4 of organization $1 from day $2 to day $3, those of adopted tables included.
--
-- $5, $6 and $7 are not used: no other statement has as many parameters, so none is taken for this one behind a pooler.
select call_date, folder_id, agent_id collate "C" as agent_id,
       sum(calls)::bigint as calls, sum(duration_ms)::bigint as duration_ms
from callstats.calls_between($1::int, $2::date, $3::date)
where folder_id = $4::int and $5::int is null and $6::int is null and $7::int is null
group by call_date, folder_id, agent_id collate "C"
having sum(calls) between -9223372036854775807 and 9223372036854775807
   and sum(duration_ms) between -9223372036854775807 and 9223372036854775807
order by call_date, folder_id, agent_id collate "C"
