delete from callstats.company_token where company_id = $1::int and name = $2::text
