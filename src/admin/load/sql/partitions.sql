-- The partitions of callstats.call: from which start to which, each null where it has no bound. No row: it has none.
select nullif(substring(bound from '^FOR VALUES FROM \(''([^'']+)''\)'), '')::timestamp as first,
       nullif(substring(bound from ' TO \(''([^'']+)''\)$'), '')::timestamp as last
from (select pg_get_expr(c.relpartbound, c.oid) as bound
      from pg_partitioned_table p
      join pg_attribute a on a.attrelid = p.partrelid and a.attnum = p.partattrs[0]
      join pg_inherits i on i.inhparent = p.partrelid
      join pg_class c on c.oid = i.inhrelid
      where p.partrelid = 'callstats.call'::regclass and p.partstrat = 'r' and p.partnatts = 1
        and a.attname = 'started_at') partition
