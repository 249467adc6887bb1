-- Each privilege that the current role lacks or should not have: a message and its fix.
with needed(name) as (
    values ('company'), ('organization'), ('folder'), ('call_source'), ('schema_version')
    union all
    select 'company_token' where to_regclass('callstats.company_token') is not null -- since version 2 of the schema
)
select 'cannot read callstats.' || name as message,
       'grant select on callstats.' || name || ' to ' || quote_ident(current_user) as fix
from needed
where coalesce(not has_table_privilege(to_regclass('callstats.' || name), 'select'), true)
union all
select 'can write ' || oid::regclass, 'revoke all on ' || oid::regclass || ' from ' || quote_ident(current_user)
from pg_catalog.pg_class
where relnamespace = to_regnamespace('callstats') and relkind in ('r', 'p', 'v', 'm', 'f')
  and has_table_privilege(oid, 'insert, update, delete, truncate')
union all
select 'can read ' || oid::regclass || ', which it does not need',
       'revoke all on ' || oid::regclass || ' from ' || quote_ident(current_user)
from pg_catalog.pg_class
where relnamespace = to_regnamespace('callstats') and relkind in ('r', 'p', 'v', 'm', 'f')
  and relname not in (select name from needed union all values ('source'), ('zone_day'), ('source_day'))
  and has_table_privilege(oid, 'select')
union all
select 'is a superuser', 'connect as callstats_worker'
from pg_catalog.pg_roles where rolname = current_user and rolsuper
