-- For `callstats check`: organizations whose time zone is refused today, or unknown to this server, one row each.
select company, organization, time_zone, problem
from (select c.short_name as company, o.short_name as organization, o.time_zone,
             case when o.time_zone in (select name from pg_catalog.pg_timezone_names)
                  then callstats.time_zone_problem(o.time_zone) else 'is not known to this server' end as problem
      from callstats.organization o
      join callstats.company c on c.id = o.company_id) every_organization
where problem is not null
order by company, organization
