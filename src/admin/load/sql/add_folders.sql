-- Those of find_folders.sql that are missing. In one order, so that two loads cannot wait for each other.
insert into callstats.folder (organization_id, name)
select n.organization_id, n.name
from unnest($1::int[], $2::int[], $3::text[]) as n(number, organization_id, name)
order by n.organization_id, n.name collate "C"
on conflict (organization_id, name) do nothing
