-- Calls that lack something.
select line, call,
       case when folder is null then 'a folder' when started_at is null then 'a start'
            when duration_ms is null then 'a duration' else 'a duration below 2147483.648 seconds' end as what
from pg_temp.callstats_folded
where folder is null or started_at is null or duration_ms is null or duration_ms not between 0 and 2147483647
order by line
