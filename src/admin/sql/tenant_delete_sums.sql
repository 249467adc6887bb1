-- Their sums in the rollup, also those of calls that were detached.
delete from callstats.call_daily d
using callstats.organization o
where o.company_id = $1::int and ($2::int is null or o.id = $2::int)
  and d.organization_id = o.id and ($3::int is null or d.folder_id = $3::int)
