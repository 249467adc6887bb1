-- Organizations whose time zone the server does not know.
select c.short_name || '/' || o.short_name || ' has ' || o.time_zone
from callstats.organization o join callstats.company c on c.id = o.company_id
where o.time_zone not in (select name from pg_catalog.pg_timezone_names)
order by 1
