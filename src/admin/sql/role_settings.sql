-- For `callstats check`: the limits that schema.sql gives the role of this session and that it lacks, one row each.
-- reset_val is what a new session has, whoever set it: postgresql.conf, the database or the role.
select 'has no connection limit' as problem,
       'alter role ' || quote_ident(current_user) || ' connection limit 20' as fix
from pg_roles
where rolname = current_user and rolconnlimit = -1
union all
select 'has no ' || name, 'alter role ' || quote_ident(current_user) || ' set ' || name || ' = ' || quote_literal(value)
from pg_settings
join (values ('statement_timeout', '30s'), ('idle_in_transaction_session_timeout', '60s')) wanted (name, value)
    using (name)
where reset_val = '0'
