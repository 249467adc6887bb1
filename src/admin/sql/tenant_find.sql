-- The ids of the company $1, its organization $2 and the folder $3 of that: one row, null where there is none.
select c.id as company, o.id as organization, f.id as folder
from (select) as always
left join callstats.company c on c.short_name = $1::text
left join callstats.organization o on o.company_id = c.id and o.short_name = $2::text
left join callstats.folder f on f.organization_id = o.id and f.name = $3::text
