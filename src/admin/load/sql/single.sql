-- One call of the records with the same id, which must not differ; a record without one is a call of its own.
create temporary table callstats_folded on commit drop as
select organization_id, call, min(line) as line, min(folder) as folder, min(agent) as agent,
       min(started_at) as started_at, min(duration_ms)::bigint as duration_ms,
       case when call is not null and count(*) > 1
                and (min(folder) <> max(folder) or min(agent) <> max(agent) or count(agent) not in (0, count(*))
                     or min(started_at) <> max(started_at) or min(duration_ms) <> max(duration_ms))
            then max(line) end as differing_line
from pg_temp.callstats_record
group by organization_id, call, case when call is null then number end
