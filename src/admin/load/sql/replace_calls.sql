-- Calls that are there with other values get those of the file.
update callstats.call c
set folder_id = n.folder_id, agent_id = n.agent, started_at = n.started_at, call_date = n.started_at::date,
    duration_ms = n.duration_ms
from pg_temp.callstats_compared n
where n.differs and c.organization_id = n.organization_id and c.id = n.id and c.external_id = n.call
