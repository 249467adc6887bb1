-- A year of made-up calls for deploy/try: three companies in three time zones, the same on every run.
-- Tokens: demo-acme, demo-nippon, demo-kohler.

insert into callstats.company (id, short_name, token_sha256) values
    (1, 'acme', sha256('demo-acme')),
    (2, 'nippon', sha256('demo-nippon')),
    (3, 'Köhler & Söhne', sha256(convert_to('demo-kohler', 'UTF8')));

insert into callstats.organization (id, company_id, short_name, time_zone) values
    (1, 1, 'support', 'America/Chicago'), (2, 1, 'sales', 'America/Chicago'),
    (3, 2, 'support', 'Asia/Tokyo'),
    (4, 3, 'Kundendienst', 'Europe/Berlin');

insert into callstats.folder (id, organization_id, name) values
    (1, 1, 'Billing'), (2, 1, 'Hardware & Software'), (3, 1, 'VIP "Gold"'), (4, 1, '<urgent>'),
    (5, 2, 'Inbound'), (6, 2, 'Outbound'),
    (7, 3, '電話'), (8, 3, 'メール'),
    (9, 4, 'Rückfragen'), (10, 4, 'Beschwerden');

-- Numbers that look random and are not: each folder has its own rhythm, every eleventh call has no agent.
insert into callstats.call (organization_id, folder_id, agent_id, started_at, call_date, duration_ms)
select f.organization_id, f.id,
       case when n % 11 <> 0 then 'agent ' || lpad((n * 7 % (3 + f.id))::text, 2, '0') end,
       day + (n * 1237 + f.id * 311) % 86400 * interval '1 second', day::date,
       10000 + (n * 104729 + f.id * 7907 + extract(doy from day)::int * 31) % 590000
from callstats.folder f,
     generate_series(timestamp '2026-01-01', timestamp '2026-12-31', interval '1 day') day,
     generate_series(1, 20 + f.id * 3 + extract(isodow from day)::int) n
-- Nobody calls on Sundays, but for the urgent ones.
where extract(isodow from day) < 7 or f.name = '<urgent>';
