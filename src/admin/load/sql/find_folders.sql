-- The folders of organization $2 with the name $3, each under its number $1.
select n.number, f.id
from unnest($1::int[], $2::int[], $3::text[]) as n(number, organization_id, name)
join callstats.folder f on f.organization_id = n.organization_id and f.name = n.name
