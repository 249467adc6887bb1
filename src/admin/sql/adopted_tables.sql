-- For `callstats check`: the mappings that are on, the seconds since the last synchronization, the rows left out, the days
-- answered from sums and the hours since the oldest of them was compared, the advice on indexes, and warnings. Tables of
-- an older adopt.sql have neither advice nor warnings.
select coalesce(string_agg(distinct name, ', '), 'none'),
       coalesce(max(extract(epoch from now() - synced_at))::bigint, 0),
       (select string_agg(count || ' rows: ' || reason, '; ')
        from (select reason, sum(value::bigint) as count
              from callstats.source, jsonb_each_text(coalesce(left_out, '{}')) as counts (reason, value)
              where value <> '0' group by reason order by reason) left_out),
       (select min(summed_from) || ' to ' || max(summed_until - 1) from callstats.source),
       (max(extract(epoch from now() - compared_since)) / 3600)::bigint,
       (select array_agg(line)
        from callstats.source s, jsonb_array_elements_text(coalesce(to_jsonb(s) -> 'advice', '[]')) line),
       (select string_agg(s.name || ': ' || line, '; ' order by s.name)
        from callstats.source s, jsonb_array_elements_text(coalesce(to_jsonb(s) -> 'warnings', '[]')) line)
from callstats.source
