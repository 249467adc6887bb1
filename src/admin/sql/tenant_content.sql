-- What is in the company $1, or in its organization $2, or in the folder $3 of that.
with organizations as (
    select id from callstats.organization where company_id = $1::int and ($2::int is null or id = $2::int)
)
select (select count(*) from organizations) as organizations,
       (select count(*) from callstats.folder
        where organization_id in (select id from organizations) and ($3::int is null or id = $3::int)) as folders,
       exists (select from callstats.call_source s
               where s.organization_id in (select id from organizations) and ($3::int is null or s.folder_id = $3::int))
       or exists (select from callstats.call c
                  where c.organization_id in (select id from organizations)
                    and ($3::int is null or c.folder_id = $3::int))
           as has_calls,
       to_regclass('callstats.call_daily') is not null as has_rollup,
       -- Also where the schema is older, or the role has no business with files.
       exists (select from pg_attribute
               where attrelid = to_regclass('callstats.loaded_file') and attname = 'folder_ids')
       and coalesce(has_table_privilege(to_regclass('callstats.loaded_file'), 'select')
                    and has_table_privilege(to_regclass('callstats.loaded_file'), 'delete'), false) as has_files
