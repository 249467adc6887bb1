-- callstats.source_day as earlier files of version 2 had it: with foreign keys in the place of triggers.
drop trigger source_day_on_delete on callstats.folder;
drop trigger source_day_on_truncate on callstats.folder;
drop trigger source_day_on_delete on callstats.source;
drop trigger source_day_on_truncate on callstats.source;
drop function callstats.delete_source_days();
alter table callstats.source_day
    add foreign key (organization_id) references callstats.organization on delete cascade,
    add foreign key (folder_id) references callstats.folder on delete cascade,
    add foreign key (source_id) references callstats.source (id) on delete cascade;
