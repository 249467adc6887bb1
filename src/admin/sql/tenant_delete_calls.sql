-- The calls of the company $1, or of its organization $2, or of the folder $3 of that.
delete from callstats.call c
using callstats.organization o
where o.company_id = $1::int and ($2::int is null or o.id = $2::int)
  and c.organization_id = o.id and ($3::int is null or c.folder_id = $3::int)
