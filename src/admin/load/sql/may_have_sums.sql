-- Whether there may be sums of calls that were detached.
select to_regclass('callstats.rollup_state') is not null as has_rollup,
       coalesce(has_table_privilege(to_regclass('callstats.rollup_state'), 'select'), false) as may_read
