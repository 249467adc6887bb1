-- Where the records of a file wait until all of them are there. Gone with the transaction.
set local work_mem = '64MB';
create temporary table callstats_record (
    number bigint not null,
    line bigint not null,
    organization_id int not null,
    call text collate "C",
    folder int,
    agent text collate "C",
    started_at timestamp,
    duration_ms int,
    folder_rank smallint not null,
    agent_rank smallint not null,
    start_rank smallint not null,
    duration_rank smallint not null,
    ended_at timestamp -- of a record without a start
) on commit drop;
