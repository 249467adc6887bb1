-- The company $1 with all that is in it, or its organization $2, or the folder $3 of that. Tokens go with the company.
delete from callstats.folder f
using callstats.organization o
where o.company_id = $1::int and ($2::int is null or o.id = $2::int)
  and f.organization_id = o.id and ($3::int is null or f.id = $3::int);
delete from callstats.organization
where company_id = $1::int and ($2::int is null or id = $2::int) and $3::int is null;
delete from callstats.company where id = $1::int and $2::int is null and $3::int is null
