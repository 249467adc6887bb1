-- The groups of all folders of organization $1 from day $2 to day $3, in the order of the index.
--
-- A row of a site's own call_source that cannot be counted is left out: no folder, no calls, or a number that is null,
-- NaN, infinite or beyond bigint; NaN is greater than all others. So is a group whose sums would be beyond bigint.
-- The bound is the largest number below 2^63 that double precision has, too.
-- The case is for the planner: of a plain range on an expression it expects one row in 40,000, and sorts.
select call_date, folder_id::int as folder_id, agent_id collate "C" as agent_id,
       sum(calls)::bigint as calls, sum(duration_ms)::bigint as duration_ms
from callstats.call_source
where organization_id = $1::int and call_date between $2::date and $3::date
  and folder_id is not null
  and case when calls between -9223372036854774784 and 9223372036854774784
            and duration_ms between -9223372036854774784 and 9223372036854774784 then true end
group by call_date, folder_id, agent_id collate "C"
having sum(calls) between -9223372036854775807 and 9223372036854775807
   and sum(duration_ms) between -9223372036854775807 and 9223372036854775807
order by call_date, folder_id, agent_id collate "C"
