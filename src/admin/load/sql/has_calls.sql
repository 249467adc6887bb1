-- Whether one of the organizations $1 has a call between the days $2 and $3.
select exists (select from callstats.call
               where organization_id = any($1) and call_date between $2 and $3) as has_calls
