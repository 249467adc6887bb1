-- For `callstats check`: rows of callstats.call_source that organization_days.sql leaves out, as one row for each
-- organization and reason, most first. Reads all of call_source: worth it only if that is a site's own view.
select organization_id, reason, count(*) as left_out, min(call_date) as first_day, max(call_date) as last_day
from (select organization_id, call_date,
             case when organization_id is null then 'no organization_id'
                  when call_date is null then 'no call_date'
                  when folder_id is null then 'no folder_id'
                  when calls is null then 'no calls'
                  when duration_ms is null then 'no duration_ms'
                  when not (calls between -9223372036854774784 and 9223372036854774784)
                      then 'calls is NaN, infinite or out of range'
                  when not (duration_ms between -9223372036854774784 and 9223372036854774784)
                      then 'duration_ms is NaN, infinite or out of range' end as reason
      from callstats.call_source) every_row
where reason is not null
group by organization_id, reason
order by left_out desc, organization_id, reason
limit 20
