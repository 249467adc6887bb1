-- One call of the records with the same id; a record without one is a call of its own.
create temporary table callstats_folded on commit drop as
with folded as (
    select organization_id, call, min(line) as line, min(started_at) as earliest, $simple_duration as duration_ms,
           $folder_key as folder_key, $agent_key as agent_key, $start_key as start_key, $duration_key as duration_key
    from pg_temp.callstats_record
    group by organization_id, call, case when call is null then number end
)
select f.organization_id, f.call, f.line, f.folder_key[4]::int as folder, agent.agent, $started_at as started_at,
       coalesce(f.duration_key[4], f.duration_ms) as duration_ms
from folded f
left join pg_temp.callstats_record agent on agent.number = abs(f.agent_key[3])
$start_join
