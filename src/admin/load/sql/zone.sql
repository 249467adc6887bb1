-- When the offset of zone $1 changes in the year $2 and two days around it, in seconds since 1970 and seconds east.
-- Since 1972 all zones change at a quarter of an hour.
select extract(epoch from at)::bigint as second, utc_offset
from (select at, utc_offset, lag(utc_offset) over (order by at) as before
      from (select at, extract(epoch from at at time zone $1 - at at time zone 'UTC')::int as utc_offset
            from generate_series(make_timestamptz($2, 1, 1, 0, 0, 0, 'UTC') - interval '48 hours',
                                 make_timestamptz($2 + 1, 1, 1, 0, 0, 0, 'UTC') + interval '48 hours',
                                 interval '15 minutes') at) each) changes
where utc_offset is distinct from before
order by at
