-- For `callstats check`: organizations whose time zone is refused today, or unknown to this server, one row each.
select company.short_name as company, organization.short_name as organization, organization.time_zone,
       callstats.time_zone_problem(organization.time_zone) as problem
from callstats.organization organization
join callstats.company company on company.id = organization.company_id
where callstats.time_zone_problem(organization.time_zone) is not null
order by 1, 2
