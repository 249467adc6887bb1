-- Texts that were loaded and gave calls: a longer one may begin like one of them.
select sha256, coalesce(text_sha256, sha256) as text_sha256, bytes, complete_bytes, unfinished_organization_id,
       unfinished_call_id, calls, has_call_ids, organization_id, mapping_sha256, organization_ids, folder_ids,
       first_day, last_day, to_char(loaded_at, 'YYYY-MM-DD HH24:MI:SS TZ') as loaded_at
from callstats.loaded_file
where calls > 0
