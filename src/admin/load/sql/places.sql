-- For each company $1 with organization $2: what is there, and what clocks show there now, and showed at $3.
select c.id is not null as has_company, o.id as organization_id, o.time_zone,
       now() at time zone coalesce(o.time_zone, 'UTC') as now,
       $3::timestamptz at time zone coalesce(o.time_zone, 'UTC') as written
from unnest($1::text[], $2::text[]) with ordinality as n(company, organization, place)
left join callstats.company c on c.short_name = n.company
left join callstats.organization o on o.company_id = c.id and o.short_name = n.organization
order by n.place
