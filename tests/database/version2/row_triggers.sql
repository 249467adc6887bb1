-- The keys of calls as schema.sql kept them before version 2 was released: by triggers for each row.
set client_min_messages = warning;
drop function callstats.keep_call_key() cascade;
drop function callstats.install_key_triggers(regclass);
create or replace function callstats.keep_call_key() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    if tg_relid <> 'callstats.call'::regclass
       and pg_partition_root(tg_relid) is distinct from 'callstats.call'::regclass then
        raise exception 'callstats.keep_call_key is for callstats.call and its partitions, not for %',
                tg_relid::regclass
            using errcode = 'insufficient_privilege';
    end if;
    if tg_op <> 'INSERT' and old.external_id is not null then
        delete from callstats.call_key
        where organization_id = old.organization_id and external_id = old.external_id and call_id = old.id;
    end if;
    if tg_op <> 'DELETE' and new.external_id is not null then
        -- Nearly always the id is free, and this alone is three times as fast as what looks at the calls, too.
        insert into callstats.call_key (organization_id, external_id, call_id)
        values (new.organization_id, new.external_id, new.id)
        on conflict do nothing;
        if found then
            return null;
        end if;
        insert into callstats.call_key as k (organization_id, external_id, call_id)
        values (new.organization_id, new.external_id, new.id)
        on conflict (organization_id, external_id) do update set call_id = excluded.call_id
            where k.call_id = excluded.call_id
               or not exists (select from callstats.call c where c.organization_id = k.organization_id
                              and c.id = k.call_id and c.external_id = k.external_id);
        if not found then
            raise exception 'the organization has a call with the external id "%" already', left(new.external_id, 50)
                using errcode = 'unique_violation', table = 'call', schema = 'callstats', column = 'external_id',
                      constraint = 'call_key_pkey';
        end if;
    end if;
    return null;
end
$$;

create trigger call_key_on_insert
    after insert on callstats.call
    for each row when (new.external_id is not null) execute function callstats.keep_call_key();
create trigger call_key_on_update
    after update on callstats.call
    for each row when (old.external_id is distinct from new.external_id
        or old.organization_id <> new.organization_id or old.id <> new.id)
    execute function callstats.keep_call_key();
create trigger call_key_on_delete
    after delete on callstats.call
    for each row when (old.external_id is not null) execute function callstats.keep_call_key();
