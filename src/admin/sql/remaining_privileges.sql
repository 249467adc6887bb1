-- For `callstats check`: what the role of this session can do beyond reading, one row each. is_warning: PostgreSQL
-- grants it to everybody, and revoking it concerns other users of the database; it fails no check.
select 'can execute ' || oid::regprocedure || ' with the privileges of ' || quote_ident(pg_get_userbyid(proowner))
           as problem,
       'revoke execute on function ' || oid::regprocedure || ' from public, ' || quote_ident(current_user) as fix,
       false as is_warning
from pg_proc
where pronamespace = to_regnamespace('callstats') and prosecdef and has_function_privilege(oid, 'execute')
union all
select 'may create objects in the schema ' || quote_ident(nspname),
       'revoke create on schema ' || quote_ident(nspname) || ' from public, ' || quote_ident(current_user),
       nspname <> 'callstats'
from pg_namespace
where nspname in ('callstats', 'public') and has_schema_privilege(oid, 'create')
union all
select 'may create temporary tables',
       'if the database is used for nothing else: revoke temporary on database ' || quote_ident(current_database())
           || ' from public',
       true
where has_database_privilege(current_database(), 'temporary')
union all
select 'may create large objects',
       'if nothing else uses them: revoke execute on function '
           || string_agg('pg_catalog.' || oid::regprocedure, ', ') || ' from public',
       true
from pg_proc
where pronamespace = 'pg_catalog'::regnamespace and proname in ('lo_creat', 'lo_create', 'lo_from_bytea')
  and has_function_privilege(oid, 'execute')
having count(*) > 0
union all
select 'is a member of ' || quote_ident(rolname),
       'revoke ' || quote_ident(rolname) || ' from ' || quote_ident(current_user), false
from pg_roles
where rolname in ('pg_write_all_data', 'pg_read_all_data', 'pg_execute_server_program', 'pg_read_server_files',
                  'pg_write_server_files', 'pg_signal_backend')
  and not (select rolsuper from pg_roles where rolname = current_user) and pg_has_role(oid, 'member')
