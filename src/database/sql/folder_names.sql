-- Id and name of each folder of organization $1, in byte order of the names.
select id, name from callstats.folder where organization_id = $1::int order by name collate "C"
