-- What may take long must end when nobody waits for it any more.
set local statement_timeout = 0;
set local idle_in_transaction_session_timeout = 0;
select set_config('client_connection_check_interval', '2s', true)
where exists (select from pg_settings where name = 'client_connection_check_interval');
