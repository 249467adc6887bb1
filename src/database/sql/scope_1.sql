-- scope.sql for version 1 of the schema, in which a company had one token. is_superseded: version 2 is there by now.
--
-- $1 SHA-256 of the token, $2 whether it is the root token, $3 company, $4 organization, $5 folder or null.
--
-- The company of the path is looked up only if the token may ask for it, so that a stranger learns nothing about it,
-- not even from the time that this takes. Folder names are read only if the answer needs them, and up to 1,001 of them:
-- folder_names.sql reads those of a larger organization row by row.
select asker.id as token_company_id,
       case when asker.id is not null then 'default' end as token_name,
       company.id is not null as company_is_visible,
       organization.id as organization_id,
       (now() at time zone organization.time_zone)::date as today,
       folder.id as folder_id,
       case when $5::text is null then
           array(select f.id from callstats.folder f where f.organization_id = organization.id
                 order by f.name collate "C" limit 1001)
       end as folder_ids,
       case when $5::text is null then
           array(select f.name from callstats.folder f where f.organization_id = organization.id
                 order by f.name collate "C" limit 1001)
       end as folder_names,
       to_regprocedure('callstats.calls_between(integer, date, date)') is not null as is_adopted,
       to_regclass('callstats.company_token') is not null as is_superseded
from (select) as always
left join callstats.company asker on asker.token_sha256 = $1::bytea
left join callstats.company company
       on company.short_name = case when $2::boolean or asker.short_name = $3::text then $3::text end
left join callstats.organization organization
       on organization.company_id = company.id and organization.short_name = $4::text
left join callstats.folder folder on folder.organization_id = organization.id and folder.name = $5::text
