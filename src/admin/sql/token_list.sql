-- Tokens of all companies, or of the company $1.
select c.short_name as company, t.name,
       to_char(t.created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') as created_at,
       case when isfinite(t.expires_at)
           then to_char(t.expires_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') end as expires_at,
       coalesce(t.expires_at <= now(), false) as is_expired
from callstats.company_token t join callstats.company c on c.id = t.company_id
where $1::text is null or c.short_name = $1::text
order by c.short_name, t.created_at, t.name
