-- The tenants and calls that the replay files speak of. The tokens: acme-token, umlaut-token.

insert into callstats.company (id, short_name, token_sha256) values
    (1, 'acme', sha256('acme-token')),
    (2, 'Übersee & Söhne', sha256('umlaut-token')),
    (3, 'tokenless', null);

insert into callstats.organization (id, company_id, short_name, time_zone) values
    (1, 1, 'support', 'UTC'),
    (2, 1, 'empty', 'Asia/Tokyo'),
    (3, 1, 'today', 'Pacific/Kiritimati'),
    (4, 2, 'support', 'Pacific/Pago_Pago'),
    (5, 1, 'markup', 'UTC'),
    (6, 1, 'rounding', 'UTC'),
    (7, 3, 'support', 'UTC');

-- A name from before control characters were refused.
alter table callstats.folder drop constraint if exists folder_name_has_no_control_character;
insert into callstats.folder (id, organization_id, name) values
    (1, 1, 'Sales'), (2, 1, 'Billing'), (3, 1, 'sales'), (4, 1, 'a/b'), (5, 1, 'a+b'), (6, 1, 'a b'),
    (7, 1, '50% off?'), (8, 1, 'Zürich'), (9, 1, '電話'), (10, 1, '.'), (11, 1, 'unused'), (12, 1, 'a'),
    (20, 2, 'nothing'),
    (30, 3, 'Sales'),
    (40, 4, 'Café "Élan"'),
    (50, 5, '<script>alert(1)</script>'), (51, 5, '&lt;'), (52, 5, E'quote" back\\slash\ttab'), (53, 5, E'\u2028'),
    (60, 6, 'up'), (61, 6, 'down'), (62, 6, 'half'), (63, 6, 'whole'), (64, 6, 'zero'), (65, 6, 'days');

insert into callstats.call (organization_id, folder_id, agent_id, started_at, duration_ms) values
    -- 3 March: the example of the reference
    (1, 1, '007', '2026-03-03 08:00', 180000), (1, 1, '007', '2026-03-03 23:59:59.999', 181000),
    (1, 1, null, '2026-03-03 00:00', 285000),
    (1, 2, '', '2026-03-03 12:00', 1000),
    -- 4 March: order of folders and agents by bytes
    (1, 3, 'b', '2026-03-04 00:00', 1000), (1, 3, 'B', '2026-03-04 09:00', 2000), (1, 3, 'ä', '2026-03-04 09:00', 3000),
    (1, 1, 'z', '2026-03-04 10:00', 4000), (1, 9, null, '2026-03-04 11:00', 5000), (1, 8, null, '2026-03-04 12:00', 6000),
    -- 9 March, and the days around the switch to summer time
    (1, 1, null, '2026-03-09 23:59:59', 1500), (1, 1, null, '2026-03-10 00:00', 2500),
    (1, 1, 'owl', '2026-03-29 02:30', 7000),
    -- 5 March: names that need care in a path
    (1, 4, null, '2026-03-05 01:00', 1000), (1, 5, null, '2026-03-05 01:00', 2000), (1, 6, null, '2026-03-05 01:00', 3000),
    (1, 7, null, '2026-03-05 01:00', 4000), (1, 10, null, '2026-03-05 01:00', 5000), (1, 12, null, '2026-03-05 01:00', 6000),
    (4, 40, 'Zoë', '2026-03-03 10:00', 60000),
    (5, 50, '<img src=x onerror=alert(1)>', '2026-03-03 10:00', 1000), (5, 51, '&', '2026-03-03 10:00', 1000),
    (5, 52, E'"\\', '2026-03-03 10:00', 1000), (5, 53, E'\u2029', '2026-03-03 10:00', 1000),
    (6, 60, null, '2026-03-03 10:00', 1000), (6, 60, null, '2026-03-03 10:00', 1001), (6, 60, null, '2026-03-03 10:00', 1001),
    (6, 61, null, '2026-03-03 10:00', 1000), (6, 61, null, '2026-03-03 10:00', 1000), (6, 61, null, '2026-03-03 10:00', 1001),
    (6, 62, null, '2026-03-03 10:00', 1000), (6, 62, null, '2026-03-03 10:00', 1001),
    (6, 63, null, '2026-03-03 10:00', 12000), (6, 64, null, '2026-03-03 10:00', 0),
    (6, 65, null, '2026-03-03 10:00', 2147483647);

insert into callstats.call (organization_id, folder_id, agent_id, started_at, duration_ms)
select o.id, f.id, null, (now() at time zone o.time_zone)::date + time '00:00', 90000
from callstats.organization o join callstats.folder f on f.organization_id = o.id
where o.short_name = 'today';
insert into callstats.call (organization_id, folder_id, agent_id, started_at, duration_ms)
select 3, 30, null, (now() at time zone 'Pacific/Kiritimati')::date + 2 + time '00:00', 30000;
