-- A file, by what was read of it.
insert into callstats.loaded_file
    (sha256, name, calls, bytes, complete_bytes, unfinished_organization_id, unfinished_call_id, has_call_ids)
values ($1, $2, $3, $4, $5, $6, $7, $8)
on conflict (sha256) do update
set name = excluded.name, calls = excluded.calls, loaded_at = now(), bytes = excluded.bytes,
    complete_bytes = excluded.complete_bytes, unfinished_organization_id = excluded.unfinished_organization_id,
    unfinished_call_id = excluded.unfinished_call_id, has_call_ids = excluded.has_call_ids
