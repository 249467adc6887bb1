-- The calls with the ids of their folders, $2 under the numbers $1, and what is there of them already. Locks the calls
-- before their keys, as TRUNCATE does.
create temporary table callstats_compared on commit drop as
select f.line, f.organization_id, f.call, f.folder, n.folder_id, f.agent, f.started_at, f.duration_ms::int as duration_ms, c.id,
       c.id is not null and (c.folder_id, c.agent_id, c.started_at, c.duration_ms)
           is distinct from (n.folder_id, f.agent, f.started_at, f.duration_ms::int) as differs
from pg_temp.callstats_folded f
join unnest($1::int[], $2::int[]) as n(folder, folder_id) on n.folder = f.folder
left join (callstats.call c
           join callstats.call_key k
               on k.organization_id = c.organization_id and k.call_id = c.id and k.external_id = c.external_id)
    on k.organization_id = f.organization_id and k.external_id = f.call
