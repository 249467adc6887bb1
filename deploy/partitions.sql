-- Partitions: keeps callstats.call partitioned by the month of started_at, on PostgreSQL's own partitioning.
--
--   psql -X -v ON_ERROR_STOP=1 -d DATABASE -f partitions.sql
--
-- Run it once; safe to run again. It converts the table that is there without copying it: what it holds becomes the
-- first partition, callstats.call_before, up to the end of the month of its last call or of tomorrow, if that is later.
-- It reads the table twice without blocking anybody, and then blocks its readers and writers for less than two seconds.
-- If it is interrupted, run it again: until then the table refuses calls that are later than that month.
--
-- Owner, privileges, triggers, foreign keys, indexes, comments and settings of the table are carried over. It stops
-- before any change, and names the reason, if something of yours depends on the table that it cannot carry over: a view
-- or a function over it, a publication of it, a unique index, a policy, a rule, or a foreign key that refers to it.
--
-- Ids come from the sequence callstats.call_id_seq. Whoever may insert calls gets the privilege to use it; for those
-- who get it later, create_month_partitions does that. An id is unique within its partition and organization.
--
-- Calls for which there is no partition are refused, so let partitions be created every day, by the
-- unit callstats-partitions.timer or with pg_cron; callstats check watches them:
--
--   select cron.schedule('callstats partitions', '30 3 * * *', 'select callstats.create_month_partitions(3)')
--
-- And to remove old ones, when you want to:
--
--   select callstats.detach_partitions_before('2025-01-01')    -- the partitions that end by then leave callstats.call
--
-- What was detached is a table of its own, to archive or to drop. With the rollup its sums stay in the answers, and
-- callstats.rollup_state.calls_kept_since is the first day that still has calls; without the rollup they are gone.

set search_path = pg_catalog, pg_temp;
set client_min_messages = warning;
begin;
-- The owner of an object in this schema can run code as those who use it, so every owner must be trusted.
do $$
declare
    stranger record;
begin
    select pg_describe_object(class, o.oid, 0) as object, pg_get_userbyid(owner) as owner into stranger
    from (select 'pg_namespace'::regclass as class, oid, nspowner as owner, oid as schema from pg_namespace
          union all select 'pg_class'::regclass, oid, relowner, relnamespace from pg_class
          union all select 'pg_proc'::regclass, oid, proowner, pronamespace from pg_proc
          union all select 'pg_type'::regclass, oid, typowner, typnamespace from pg_type
          union all select 'pg_operator'::regclass, oid, oprowner, oprnamespace from pg_operator) o
    where schema = to_regnamespace('callstats') and not pg_has_role(owner, current_user, 'member')
      and not pg_has_role(owner, (select datdba from pg_database where datname = current_database()), 'member')
    limit 1;
    if stranger is not null then
        raise exception 'callstats does not trust the owner of %: %', stranger.object, stranger.owner
            using hint = 'It must belong to a superuser, the owner of the database, or the role that runs this script: '
                'give it to one of them, or drop it.';
    end if;
end
$$;

do $$
begin
    if to_regprocedure('callstats.install_key_triggers(regclass)') is null then
        raise exception 'the schema callstats is older than this file' using hint = 'Run schema.sql first.';
    end if;
end
$$;
select callstats.retry_on_lock('lock table only callstats.call in share update exclusive mode') \g /dev/null

create or replace function callstats.month_partitions(out name regclass, out ends date) returns setof record
language sql stable set search_path = pg_catalog, pg_temp as $$
    select i.inhrelid::regclass, nullif((callstats.partition_bounds(i.inhrelid)).ends, 'infinity')::date
    from pg_inherits i
    where i.inhparent = 'callstats.call'::regclass
    order by 2
$$;

-- Adding a partition blocks neither readers nor writers: the table is created first and attached when it is complete.
create or replace function callstats.create_month_partitions(ahead int default 3) returns void
language plpgsql set search_path = pg_catalog, pg_temp set datestyle = 'ISO, YMD' as $$
declare
    month timestamp;
    partition text;
    owner name := (select pg_get_userbyid(relowner) from pg_class where oid = 'callstats.call'::regclass);
    settings text[];
    grantee text;
begin
    perform callstats.retry_on_lock('lock table only callstats.call in share update exclusive mode');
    select reloptions into settings from pg_class
    where oid = (select name from callstats.month_partitions() order by ends desc limit 1);
    for month in
        select generate_series(coalesce((select max(ends) from callstats.month_partitions()),
                                        date_trunc('month', now()::timestamp))::timestamp,
                               date_trunc('month', now()::timestamp) + ahead * interval '1 month', interval '1 month')
    loop
        partition := to_char(month, '"callstats.call_"YYYY_MM');
        execute format('create table %s (like callstats.call including defaults including constraints
            including generated including storage including comments)', partition);
        execute format('alter table %s add primary key (organization_id, id)', partition);
        if settings is not null then
            execute format('alter table %s set (%s)', partition, array_to_string(settings, ', '));
        end if;
        if (select relreplident from pg_class where oid = 'callstats.call'::regclass) in ('f', 'n') then
            execute format('alter table %s replica identity %s', partition,
                (select case relreplident when 'f' then 'full' else 'nothing' end
                 from pg_class where oid = 'callstats.call'::regclass));
        end if;
        perform callstats.install_key_triggers(partition::regclass);
        if to_regprocedure('callstats.install_rollup_triggers(regclass)') is not null then
            perform callstats.install_rollup_triggers(partition::regclass);
        end if;
        if owner <> current_user then
            execute format('alter table %s owner to %I', partition, owner);
        end if;
        perform callstats.retry_on_lock(format('alter table callstats.call attach partition %s
            for values from (%L) to (%L)', partition, month, month + interval '1 month'));
    end loop;
    for grantee in
        select distinct case when a.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(a.grantee)) end
        from (select (aclexplode(relacl)).* from pg_class where oid = 'callstats.call'::regclass
              union all
              select (aclexplode(attacl)).* from pg_attribute where attrelid = 'callstats.call'::regclass) a
        where a.privilege_type = 'INSERT'
          and (a.grantee = 0 or not has_sequence_privilege(a.grantee, 'callstats.call_id_seq', 'usage'))
    loop
        execute format('grant usage on sequence callstats.call_id_seq to %s', grantee);
    end loop;
end
$$;

-- Returns how many partitions left callstats.call.
create or replace function callstats.detach_partitions_before(day date) returns int
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    old record;
    trigger_name name;
    detached int := 0;
    statements text[];
    names regclass[];
    all_ends date[];
begin
    perform callstats.retry_on_lock('lock table only callstats.call in share update exclusive mode');
    -- Their ids are free from then on. Before the locks, because it may take long; a key that a writer holds stays, and
    -- counts as free as well, because to wait for it here would keep others waiting.
    for old in select * from callstats.month_partitions() where ends <= day loop
        execute format('delete from callstats.call_key where (organization_id, external_id) in (
            select k.organization_id, k.external_id from callstats.call_key k join %s c
                on k.organization_id = c.organization_id and k.external_id = c.external_id and k.call_id = c.id
            for update of k skip locked)', old.name);
    end loop;
    -- Writers of calls lock the folder after the table, writers of a partition lock the partition first: so all locks
    -- are taken at once, or all are given up for a moment. Keeping one of them would block both kinds for long.
    select array['lock table only callstats.call in access exclusive mode']
               || array_agg(format('lock table %s in access exclusive mode nowait', name))
               || array['lock table callstats.folder in share row exclusive mode nowait']
               || array_agg(format('alter table callstats.call detach partition %s', name)),
           array_agg(name), array_agg(ends)
        into statements, names, all_ends
        from callstats.month_partitions() where ends <= day;
    if names is null then
        return 0;
    end if;
    perform callstats.retry_on_lock(variadic statements);
    for old in select * from unnest(names, all_ends) as u (name, ends) loop
        detached := detached + 1;
        for trigger_name in
            select tgname from pg_trigger where tgrelid = old.name and tgname ~ '^call_(roll_up|key_on)_'
        loop
            execute format('drop trigger %I on %s', trigger_name, old.name);
        end loop;
        if to_regclass('callstats.rollup_state') is not null then
            update callstats.rollup_state set calls_kept_since = greatest(calls_kept_since, old.ends);
        end if;
    end loop;
    return detached;
end
$$;

-- The names that the first version had.
create or replace function callstats.make_months(ahead int default 3) returns void
language sql set search_path = pg_catalog, pg_temp as 'select callstats.create_month_partitions(ahead)';
create or replace function callstats.detach_before(day date) returns int
language sql set search_path = pg_catalog, pg_temp as 'select callstats.detach_partitions_before(day)';

revoke execute on function callstats.month_partitions(), callstats.create_month_partitions(int),
    callstats.detach_partitions_before(date), callstats.make_months(int), callstats.detach_before(date) from public;
grant execute on function callstats.month_partitions() to callstats_worker; -- callstats check warns before they run out
select callstats.give_to_owner() \g /dev/null

do $$
declare
    problem text;
begin
    if to_regclass('callstats.call_number') is not null then -- the name that the first version had
        perform callstats.retry_on_lock('alter sequence callstats.call_number rename to call_id_seq');
    end if;
    if (select relkind from pg_class where oid = 'callstats.call'::regclass) = 'p' then
        return;
    end if;
    select string_agg(thing, ', ') into problem from (
        select callstats.dependents_of('callstats.call',
            case when kind = 'calls' then to_regclass('callstats.call_source') end) as thing
        from callstats.call_source_kind()
        union all
        select 'publication ' || quote_ident(pubname)
        from pg_publication_rel r join pg_publication p on p.oid = r.prpubid
        where prrelid = 'callstats.call'::regclass
        union all
        select 'index ' || indexrelid::regclass from pg_index
        where indrelid = 'callstats.call'::regclass and not indisprimary
          and (indisunique or indisexclusion or indisreplident or not indisvalid)
        union all
        select 'policy ' || quote_ident(polname) from pg_policy where polrelid = 'callstats.call'::regclass
        union all
        select 'row level security' from pg_class where oid = 'callstats.call'::regclass and relrowsecurity
        union all
        select 'rule ' || quote_ident(rulename) from pg_rewrite where ev_class = 'callstats.call'::regclass
        union all
        select format('foreign key %I of %s', conname, conrelid::regclass) from pg_constraint
        where confrelid = 'callstats.call'::regclass
        union all
        select 'table ' || inhrelid::regclass from pg_inherits where inhparent = 'callstats.call'::regclass
        union all
        select 'parent table ' || inhparent::regclass from pg_inherits where inhrelid = 'callstats.call'::regclass
        union all
        select 'trigger ' || quote_ident(tgname) from pg_trigger
        where tgrelid = 'callstats.call'::regclass and not tgisinternal and tgtype & 1 = 1
          and (tgoldtable is not null or tgnewtable is not null)
    ) things where thing is not null;
    if problem is not null then
        raise exception 'partitions.sql cannot carry over % of callstats.call', problem
            using hint = 'Drop it, run this file, and create it again on the partitioned table.';
    end if;
end
$$;
commit;

-- Attaching the partition of all earlier calls would read it, unless a valid constraint excludes later calls. The
-- constraint is added for new rows first, and then, beside writers, validated for the existing ones.
begin;
select callstats.retry_on_lock('lock table only callstats.call in share update exclusive mode') \g /dev/null
do $$
declare
    last_day timestamp;
begin
    if (select relkind from pg_class where oid = 'callstats.call'::regclass) = 'r' then
        select greatest(max(started_at), now()::timestamp + interval '1 day') into last_day from callstats.call;
        perform callstats.retry_on_lock('alter table callstats.call drop constraint if exists call_before_end',
            format('alter table callstats.call add constraint call_before_end check (started_at < %L) not valid',
                date_trunc('month', last_day) + interval '1 month'));
    end if;
end
$$;
commit;
begin;
select callstats.retry_on_lock('lock table only callstats.call in share update exclusive mode') \g /dev/null
do $$
begin
    if (select relkind from pg_class where oid = 'callstats.call'::regclass) = 'r' then
        alter table callstats.call validate constraint call_before_end;
    end if;
end
$$;
commit;

begin;
select callstats.retry_on_lock('lock table only callstats.call in share update exclusive mode') \g /dev/null
do $$
declare
    call_end text := (select substring(pg_get_constraintdef(oid) from '''([^'']+)''') from pg_constraint
                      where conrelid = 'callstats.call'::regclass and conname = 'call_before_end');
    source_kind text;
    source_query text;
    attributes text[];
    trigger_definitions text[];
    constraints text[];
    index_names name[];
    index_definitions text[];
    sequence regclass;
    sequence_attributes text[];
    last_id bigint;
    made record;
    definition text;
begin
    if (select relkind from pg_class where oid = 'callstats.call'::regclass) = 'p' then
        return;
    end if;
    select kind, query into source_kind, source_query from callstats.call_source_kind();
    perform callstats.retry_on_lock(variadic
        -- Setting the owner to what it is locks the view, and not the tables behind it.
        array(select format('alter view callstats.call_source owner to %I', pg_get_userbyid(relowner))
              from pg_class where source_kind = 'calls' and oid = to_regclass('callstats.call_source'))
        || array['lock table callstats.call in access exclusive mode',
                 'lock table callstats.folder in share row exclusive mode nowait']);

    attributes := callstats.attributes_of('callstats.call');
    sequence := pg_get_serial_sequence('callstats.call', 'id');
    sequence_attributes := callstats.attributes_of(sequence);
    execute format('select case when is_called then last_value + 1 else last_value end from %s', sequence) into last_id;
    select array_agg(format('alter table callstats.call add constraint %I %s', conname, pg_get_constraintdef(oid)))
    into constraints
    from pg_constraint
    where conrelid = 'callstats.call'::regclass and contype in ('c', 'f') and conname <> 'call_before_end';
    select array_agg(relname), array_agg(pg_get_indexdef(indexrelid)) into index_names, index_definitions
    from pg_index join pg_class on pg_class.oid = indexrelid
    where indrelid = 'callstats.call'::regclass and not indisprimary;

    -- Triggers that name the table are dropped, and created again for the new one.
    for made in
        select tgname, tgenabled, pg_get_triggerdef(oid) as definition from pg_trigger
        where tgrelid = 'callstats.call'::regclass and not tgisinternal order by oid
    loop
        trigger_definitions := trigger_definitions || made.definition;
        if made.tgenabled <> 'O' then
            trigger_definitions := trigger_definitions || format('alter table callstats.call %s trigger %I',
                case made.tgenabled when 'D' then 'disable' when 'R' then 'enable replica' else 'enable always' end,
                made.tgname);
        end if;
        execute format('drop trigger %I on callstats.call', made.tgname);
    end loop;
    alter table callstats.call rename to call_before;
    for made in select unnest(index_names) as name loop
        execute format('alter index callstats.%I rename to %I', made.name,
            case made.name when 'call_group' then 'call_before_group' else left(made.name, 56) || '_before' end);
    end loop;
    alter table callstats.call_before alter column id drop identity;
    create sequence callstats.call_id_seq;
    perform setval('callstats.call_id_seq', last_id, false);

    create table callstats.call (like callstats.call_before including defaults including generated including storage
        including comments including statistics) partition by range (started_at);
    foreach definition in array attributes || constraints loop
        execute definition;
    end loop;
    alter table callstats.call alter column id set default nextval('callstats.call_id_seq');
    alter table callstats.call_before alter column id set default nextval('callstats.call_id_seq');
    foreach definition in array sequence_attributes loop
        execute definition;
    end loop;
    alter sequence callstats.call_id_seq owned by callstats.call.id;
    foreach definition in array index_definitions || trigger_definitions loop
        execute definition;
    end loop;
    execute format('alter table callstats.call attach partition callstats.call_before
        for values from (minvalue) to (%L)', call_end);
    alter table callstats.call_before drop constraint call_before_end;
    perform callstats.install_key_triggers('callstats.call_before');
    if to_regprocedure('callstats.install_rollup_triggers(regclass)') is not null then
        perform callstats.install_rollup_triggers('callstats.call_before');
    end if;
    if source_kind = 'calls' then
        execute 'create or replace view callstats.call_source as ' || source_query;
    end if;
end
$$;
select callstats.create_month_partitions(3) \g /dev/null
commit;
