-- The version of the schema, and which of its extensions are installed.
select (select max(version) from callstats.schema_version) as version,
       to_regclass('callstats.call_daily') is not null as rollup,
       coalesce((select relkind = 'p' from pg_catalog.pg_class where oid = to_regclass('callstats.call')), false)
           as partitions,
       to_regclass('callstats.call_sharded') is not null as shards,
       to_regclass('callstats.source') is not null as adopt
