-- Who asks, and for what: one row, always.
--
-- $1 SHA-256 of the token, $2 whether it is the root token, $3 company, $4 organization, $5 folder or null.
--
-- The company of the path is looked up only for a token that may ask for it, so that a stranger learns
-- nothing, not even by time. Folder names come along only where the answer needs them.
select asker.id is not null as token_is_known,
       company.id is not null as company_is_found,
       organization.id as organization_id,
       (now() at time zone organization.time_zone)::date as today,
       folder.id as folder_id,
       case when $5::text is null then
           array(select f.id from callstats.folder f where f.organization_id = organization.id order by f.id)
       end as folder_ids,
       case when $5::text is null then
           array(select f.name from callstats.folder f where f.organization_id = organization.id order by f.id)
       end as folder_names
from (select) as always
left join callstats.company asker on asker.token_sha256 = $1::bytea
left join callstats.company company
       on company.short_name = case when $2::boolean or asker.short_name = $3::text then $3::text end
left join callstats.organization organization
       on organization.company_id = company.id and organization.short_name = $4::text
left join callstats.folder folder on folder.organization_id = organization.id and folder.name = $5::text
