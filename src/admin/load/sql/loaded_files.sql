-- Files that were loaded: a longer one may begin like one of them.
select sha256, bytes, complete_bytes, unfinished_organization_id, unfinished_call_id, calls, has_call_ids,
       to_char(loaded_at, 'YYYY-MM-DD HH24:MI:SS TZ') as loaded_at
from callstats.loaded_file
