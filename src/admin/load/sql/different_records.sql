-- Records of a call that do not say the same, where there must be one.
select call, min(line), max(line)
from pg_temp.callstats_record
where call is not null
group by organization_id, call
having count(*) > 1
   and (min(folder) <> max(folder) or min(agent) <> max(agent) or count(agent) not in (0, count(*))
        or min(started_at) <> max(started_at) or min(duration_ms) <> max(duration_ms))
order by 2
