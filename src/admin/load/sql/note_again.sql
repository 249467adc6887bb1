-- The text $1 for the organization $2 with the mapping $3, which was loaded before.
update callstats.loaded_file
set name = $4, calls = $5, loaded_at = now(), bytes = $6, complete_bytes = $7, unfinished_organization_id = $8,
    unfinished_call_id = $9, has_call_ids = $10, organization_ids = $11, folder_ids = $12, first_day = $13,
    last_day = $14, organization_id = $2, mapping_sha256 = $3
where coalesce(text_sha256, sha256) = $1
  and (mapping_sha256 is null or mapping_sha256 = $3 and organization_id is not distinct from $2)
