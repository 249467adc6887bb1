-- The text $1 for the organization $2 with the mapping $3. Where the text is there for another organization or with
-- another mapping, this is one more row, with a digest of all three.
insert into callstats.loaded_file
    (sha256, text_sha256, organization_id, mapping_sha256, name, calls, bytes, complete_bytes,
     unfinished_organization_id, unfinished_call_id, has_call_ids, organization_ids, folder_ids, first_day, last_day)
select case when exists (select from callstats.loaded_file where sha256 = $1)
            then sha256($1::bytea || int4send(coalesce($2::int, 0)) || $3::bytea) else $1::bytea end,
       $1::bytea, $2::int, $3::bytea, $4::text, $5::bigint, $6::bigint, $7::bigint, $8::int, $9::bigint, $10::boolean,
       $11::int[], $12::int[], $13::date, $14::date
