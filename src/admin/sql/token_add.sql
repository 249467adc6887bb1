-- Adds a token, unless it would have expired or its name is taken.
--
-- $1 company, $2 name, $3 SHA-256 of the token, $4 the moment from which it does not count, or null.
with checked as materialized (select coalesce($4::timestamptz <= now(), false) as is_past),
added as (
    insert into callstats.company_token (company_id, name, token_sha256, expires_at)
    select $1::int, $2::text, $3::bytea, $4::timestamptz from checked where not is_past
    on conflict (company_id, name) do nothing
    returning 1
)
select is_past, not is_past and not exists (select from added) as is_taken from checked
