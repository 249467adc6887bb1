-- Calls that would be written, but start in none of the times from $1 to $2. $3: also those that are there and differ.
select line, call, started_at
from pg_temp.callstats_compared
where (id is null or $3 and differs)
  and not exists (select from unnest($1::timestamp[], $2::timestamp[]) as p(first, last)
                  where (p.first is null or started_at >= p.first) and (p.last is null or started_at < p.last))
order by line
