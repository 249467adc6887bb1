-- Each folder with what is above it; also what has nothing in it.
select c.short_name as company,
       (select count(*) from callstats.company_token t
        where t.company_id = c.id and (t.expires_at is null or t.expires_at > now())) as tokens,
       o.short_name as organization, o.time_zone, f.name as folder
from callstats.company c
left join callstats.organization o on o.company_id = c.id
left join callstats.folder f on f.organization_id = o.id
order by c.short_name, o.short_name, f.name
