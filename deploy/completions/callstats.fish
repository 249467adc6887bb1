# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_callstats_global_optspecs
    string join \n listen= listen-mode= listen-group= V/version database= h/help
end

function __fish_callstats_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_callstats_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_callstats_using_subcommand
    set -l cmd (__fish_callstats_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c callstats -n "__fish_callstats_needs_command" -l listen -d 'Binds /path/to.sock or host:port, then serves FastCGI' -r
complete -c callstats -n "__fish_callstats_needs_command" -l listen-mode -d 'Mode of that socket in the file system [default: CALLSTATS_LISTEN_MODE]' -r
complete -c callstats -n "__fish_callstats_needs_command" -l listen-group -d 'Its group, by name or number [default: CALLSTATS_LISTEN_GROUP]' -r
complete -c callstats -n "__fish_callstats_needs_command" -l database -d 'Database of a command [default: DATABASE_URL, else as psql: PGHOST, ...]' -r
complete -c callstats -n "__fish_callstats_needs_command" -s V -l version -d 'Prints the version'
complete -c callstats -n "__fish_callstats_needs_command" -s h -l help -d 'Print help'
complete -c callstats -n "__fish_callstats_needs_command" -f -a "check" -d 'Verifies the installation'
complete -c callstats -n "__fish_callstats_needs_command" -f -a "tenant" -d 'Companies, organizations and folders'
complete -c callstats -n "__fish_callstats_needs_command" -f -a "token" -d 'Tokens of companies'
complete -c callstats -n "__fish_callstats_needs_command" -f -a "schema" -d 'The schema in the database'
complete -c callstats -n "__fish_callstats_needs_command" -f -a "adopt" -d 'Tables of calls that exist already, read in place'
complete -c callstats -n "__fish_callstats_needs_command" -f -a "load" -d 'Loads calls from files: CSV, JSON or XML'
complete -c callstats -n "__fish_callstats_needs_command" -f -a "completions" -d 'Prints the completions of a shell'
complete -c callstats -n "__fish_callstats_needs_command" -f -a "manual" -d 'Writes the manual pages of the commands into a folder'
complete -c callstats -n "__fish_callstats_using_subcommand check" -l env-file -d 'The variables of the worker [default: /etc/callstats/callstats.env, if DATABASE_URL is not set]' -r -F
complete -c callstats -n "__fish_callstats_using_subcommand check" -l database -d 'Database of a command [default: DATABASE_URL, else as psql: PGHOST, ...]' -r
complete -c callstats -n "__fish_callstats_using_subcommand check" -l json -d 'One JSON object instead of lines'
complete -c callstats -n "__fish_callstats_using_subcommand check" -s h -l help -d 'Print help'
complete -c callstats -n "__fish_callstats_using_subcommand tenant; and not __fish_seen_subcommand_from list add rename delete" -l database -d 'Database of a command [default: DATABASE_URL, else as psql: PGHOST, ...]' -r
complete -c callstats -n "__fish_callstats_using_subcommand tenant; and not __fish_seen_subcommand_from list add rename delete" -s h -l help -d 'Print help'
complete -c callstats -n "__fish_callstats_using_subcommand tenant; and not __fish_seen_subcommand_from list add rename delete" -f -a "list" -d 'Lists companies with their organizations and folders'
complete -c callstats -n "__fish_callstats_using_subcommand tenant; and not __fish_seen_subcommand_from list add rename delete" -f -a "add" -d 'Adds a company, an organization or a folder, with those above it'
complete -c callstats -n "__fish_callstats_using_subcommand tenant; and not __fish_seen_subcommand_from list add rename delete" -f -a "rename" -d 'Renames a company, an organization or a folder'
complete -c callstats -n "__fish_callstats_using_subcommand tenant; and not __fish_seen_subcommand_from list add rename delete" -f -a "delete" -d 'Deletes a company, an organization or a folder, with all that is in it'
complete -c callstats -n "__fish_callstats_using_subcommand tenant; and __fish_seen_subcommand_from list" -l database -d 'Database of a command [default: DATABASE_URL, else as psql: PGHOST, ...]' -r
complete -c callstats -n "__fish_callstats_using_subcommand tenant; and __fish_seen_subcommand_from list" -l json -d 'One JSON array instead of a table'
complete -c callstats -n "__fish_callstats_using_subcommand tenant; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c callstats -n "__fish_callstats_using_subcommand tenant; and __fish_seen_subcommand_from add" -l time-zone -d 'IANA name of the organization\'s time zone, in which its days begin and end [default: UTC]' -r
complete -c callstats -n "__fish_callstats_using_subcommand tenant; and __fish_seen_subcommand_from add" -l database -d 'Database of a command [default: DATABASE_URL, else as psql: PGHOST, ...]' -r
complete -c callstats -n "__fish_callstats_using_subcommand tenant; and __fish_seen_subcommand_from add" -l json -d 'One JSON object instead of a summary'
complete -c callstats -n "__fish_callstats_using_subcommand tenant; and __fish_seen_subcommand_from add" -s h -l help -d 'Print help'
complete -c callstats -n "__fish_callstats_using_subcommand tenant; and __fish_seen_subcommand_from rename" -l to -d 'The new name of the last one' -r
complete -c callstats -n "__fish_callstats_using_subcommand tenant; and __fish_seen_subcommand_from rename" -l database -d 'Database of a command [default: DATABASE_URL, else as psql: PGHOST, ...]' -r
complete -c callstats -n "__fish_callstats_using_subcommand tenant; and __fish_seen_subcommand_from rename" -l json -d 'One JSON object instead of a summary'
complete -c callstats -n "__fish_callstats_using_subcommand tenant; and __fish_seen_subcommand_from rename" -s h -l help -d 'Print help'
complete -c callstats -n "__fish_callstats_using_subcommand tenant; and __fish_seen_subcommand_from delete" -l database -d 'Database of a command [default: DATABASE_URL, else as psql: PGHOST, ...]' -r
complete -c callstats -n "__fish_callstats_using_subcommand tenant; and __fish_seen_subcommand_from delete" -l with-calls -d 'Deletes the calls, too'
complete -c callstats -n "__fish_callstats_using_subcommand tenant; and __fish_seen_subcommand_from delete" -l yes -d 'Does not ask'
complete -c callstats -n "__fish_callstats_using_subcommand tenant; and __fish_seen_subcommand_from delete" -l json -d 'One JSON object instead of a summary'
complete -c callstats -n "__fish_callstats_using_subcommand tenant; and __fish_seen_subcommand_from delete" -s h -l help -d 'Print help'
complete -c callstats -n "__fish_callstats_using_subcommand token; and not __fish_seen_subcommand_from add list revoke" -l database -d 'Database of a command [default: DATABASE_URL, else as psql: PGHOST, ...]' -r
complete -c callstats -n "__fish_callstats_using_subcommand token; and not __fish_seen_subcommand_from add list revoke" -s h -l help -d 'Print help'
complete -c callstats -n "__fish_callstats_using_subcommand token; and not __fish_seen_subcommand_from add list revoke" -f -a "add" -d 'Creates a token for a company, and prints it, this once'
complete -c callstats -n "__fish_callstats_using_subcommand token; and not __fish_seen_subcommand_from add list revoke" -f -a "list" -d 'Lists the tokens of all companies, or of one, without their values'
complete -c callstats -n "__fish_callstats_using_subcommand token; and not __fish_seen_subcommand_from add list revoke" -f -a "revoke" -d 'Revokes a token, from the next request on'
complete -c callstats -n "__fish_callstats_using_subcommand token; and __fish_seen_subcommand_from add" -l name -d 'What to call the token, unique in the company' -r
complete -c callstats -n "__fish_callstats_using_subcommand token; and __fish_seen_subcommand_from add" -l expires -d 'First day (UTC) or moment from which it does not count: 2027-01-01, 2027-01-01T12:00:00+01:00' -r
complete -c callstats -n "__fish_callstats_using_subcommand token; and __fish_seen_subcommand_from add" -l database -d 'Database of a command [default: DATABASE_URL, else as psql: PGHOST, ...]' -r
complete -c callstats -n "__fish_callstats_using_subcommand token; and __fish_seen_subcommand_from add" -l json -d 'One JSON object instead of the token alone'
complete -c callstats -n "__fish_callstats_using_subcommand token; and __fish_seen_subcommand_from add" -s h -l help -d 'Print help'
complete -c callstats -n "__fish_callstats_using_subcommand token; and __fish_seen_subcommand_from list" -l database -d 'Database of a command [default: DATABASE_URL, else as psql: PGHOST, ...]' -r
complete -c callstats -n "__fish_callstats_using_subcommand token; and __fish_seen_subcommand_from list" -l json -d 'One JSON array instead of a table'
complete -c callstats -n "__fish_callstats_using_subcommand token; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c callstats -n "__fish_callstats_using_subcommand token; and __fish_seen_subcommand_from revoke" -l database -d 'Database of a command [default: DATABASE_URL, else as psql: PGHOST, ...]' -r
complete -c callstats -n "__fish_callstats_using_subcommand token; and __fish_seen_subcommand_from revoke" -l json -d 'One JSON object instead of a summary'
complete -c callstats -n "__fish_callstats_using_subcommand token; and __fish_seen_subcommand_from revoke" -s h -l help -d 'Print help'
complete -c callstats -n "__fish_callstats_using_subcommand schema; and not __fish_seen_subcommand_from install print version" -l database -d 'Database of a command [default: DATABASE_URL, else as psql: PGHOST, ...]' -r
complete -c callstats -n "__fish_callstats_using_subcommand schema; and not __fish_seen_subcommand_from install print version" -s h -l help -d 'Print help'
complete -c callstats -n "__fish_callstats_using_subcommand schema; and not __fish_seen_subcommand_from install print version" -f -a "install" -d 'Creates or upgrades the schema, or one of its extensions'
complete -c callstats -n "__fish_callstats_using_subcommand schema; and not __fish_seen_subcommand_from install print version" -f -a "print" -d 'Prints the SQL, for psql'
complete -c callstats -n "__fish_callstats_using_subcommand schema; and not __fish_seen_subcommand_from install print version" -f -a "version" -d 'Prints the version of the schema in the database, and its extensions'
complete -c callstats -n "__fish_callstats_using_subcommand schema; and __fish_seen_subcommand_from install" -l database -d 'Database of a command [default: DATABASE_URL, else as psql: PGHOST, ...]' -r
complete -c callstats -n "__fish_callstats_using_subcommand schema; and __fish_seen_subcommand_from install" -l json -d 'One JSON object instead of a summary'
complete -c callstats -n "__fish_callstats_using_subcommand schema; and __fish_seen_subcommand_from install" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c callstats -n "__fish_callstats_using_subcommand schema; and __fish_seen_subcommand_from print" -l database -d 'Database of a command [default: DATABASE_URL, else as psql: PGHOST, ...]' -r
complete -c callstats -n "__fish_callstats_using_subcommand schema; and __fish_seen_subcommand_from print" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c callstats -n "__fish_callstats_using_subcommand schema; and __fish_seen_subcommand_from version" -l database -d 'Database of a command [default: DATABASE_URL, else as psql: PGHOST, ...]' -r
complete -c callstats -n "__fish_callstats_using_subcommand schema; and __fish_seen_subcommand_from version" -l json -d 'One JSON object instead of lines'
complete -c callstats -n "__fish_callstats_using_subcommand schema; and __fish_seen_subcommand_from version" -s h -l help -d 'Print help'
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and not __fish_seen_subcommand_from try on off status sync" -l database -d 'Database of a command [default: DATABASE_URL, else as psql: PGHOST, ...]' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and not __fish_seen_subcommand_from try on off status sync" -s h -l help -d 'Print help'
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and not __fish_seen_subcommand_from try on off status sync" -f -a "try" -d 'Shows what a mapping finds in a table, and how fast, and changes nothing'
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and not __fish_seen_subcommand_from try on off status sync" -f -a "on" -d 'Adds the calls of a table to the answers, by a mapping, or replaces the mapping of this name'
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and not __fish_seen_subcommand_from try on off status sync" -f -a "off" -d 'Takes the calls of a mapping, or of all, out of the answers'
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and not __fish_seen_subcommand_from try on off status sync" -f -a "status" -d 'Prints which tables are read, and whether their mappings fit'
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and not __fish_seen_subcommand_from try on off status sync" -f -a "sync" -d 'Creates the names that are new in the tables'
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from try" -l name -d 'of the mapping; default: the preset\'s, else "calls"' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from try" -l preset -d 'asterisk, asterisk-start, flat, freeswitch, fusionpbx' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from try" -l relation -d 'schema.table, a join or a sub-select' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from try" -l call -d 'rows with equal values are one call' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from try" -l leg-order -d 'the first row by it gives company, organization and folder' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from try" -l company -d 'expression' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from try" -l organization -d 'expression' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from try" -l folder -d 'expression' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from try" -l agent -d 'expression' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from try" -l start -d 'expression: timestamp, date, number since 1970, or text by start_pattern or start_unit' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from try" -l duration -d 'expression: a number with unit, an interval, a time, or text with unit' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from try" -l filter -d 'condition of the rows that count' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from try" -l time-zone -d 'of starts without a zone, and of new organizations' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from try" -l span -d 'the longest time from the first to the last row of a call; default 4 hours' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from try" -l start-unit -d 's or ms, for numbers and for text of them' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from try" -l start-pattern -d 'of YYYY MM DD HH24 MI SS MS, for text' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from try" -l unit -d 'of the duration: s, ms, days, or hms for text' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from try" -l horizon -d 'days older than this are summed by sync, such as \'7 days\'; default: none are' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from try" -l changed -d 'expression: when a row was last changed, a timestamptz; for sums behind the horizon' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from try" -l trunks -d 'regular expression: peers of Asterisk that are no agents' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from try" -l about -d 'what counts as a call; printed by try' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from try" -l database -d 'Database of a command [default: DATABASE_URL, else as psql: PGHOST, ...]' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from try" -s h -l help -d 'Print help'
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from on" -l name -d 'of the mapping; default: the preset\'s, else "calls"' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from on" -l preset -d 'asterisk, asterisk-start, flat, freeswitch, fusionpbx' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from on" -l relation -d 'schema.table, a join or a sub-select' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from on" -l call -d 'rows with equal values are one call' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from on" -l leg-order -d 'the first row by it gives company, organization and folder' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from on" -l company -d 'expression' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from on" -l organization -d 'expression' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from on" -l folder -d 'expression' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from on" -l agent -d 'expression' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from on" -l start -d 'expression: timestamp, date, number since 1970, or text by start_pattern or start_unit' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from on" -l duration -d 'expression: a number with unit, an interval, a time, or text with unit' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from on" -l filter -d 'condition of the rows that count' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from on" -l time-zone -d 'of starts without a zone, and of new organizations' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from on" -l span -d 'the longest time from the first to the last row of a call; default 4 hours' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from on" -l start-unit -d 's or ms, for numbers and for text of them' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from on" -l start-pattern -d 'of YYYY MM DD HH24 MI SS MS, for text' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from on" -l unit -d 'of the duration: s, ms, days, or hms for text' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from on" -l horizon -d 'days older than this are summed by sync, such as \'7 days\'; default: none are' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from on" -l changed -d 'expression: when a row was last changed, a timestamptz; for sums behind the horizon' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from on" -l trunks -d 'regular expression: peers of Asterisk that are no agents' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from on" -l about -d 'what counts as a call; printed by try' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from on" -l database -d 'Database of a command [default: DATABASE_URL, else as psql: PGHOST, ...]' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from on" -s h -l help -d 'Print help'
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from off" -l database -d 'Database of a command [default: DATABASE_URL, else as psql: PGHOST, ...]' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from off" -s h -l help -d 'Print help'
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from status" -l database -d 'Database of a command [default: DATABASE_URL, else as psql: PGHOST, ...]' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help'
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from sync" -l database -d 'Database of a command [default: DATABASE_URL, else as psql: PGHOST, ...]' -r
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from sync" -l full -d 'Looks at all rows'
complete -c callstats -n "__fish_callstats_using_subcommand adopt; and __fish_seen_subcommand_from sync" -s h -l help -d 'Print help'
complete -c callstats -n "__fish_callstats_using_subcommand load" -l preset -d 'A built-in mapping: see --print-preset' -r
complete -c callstats -n "__fish_callstats_using_subcommand load" -l map -d 'A mapping in TOML; options win over it' -r -F
complete -c callstats -n "__fish_callstats_using_subcommand load" -l print-preset -d 'Prints a preset, to begin a mapping with' -r
complete -c callstats -n "__fish_callstats_using_subcommand load" -l existing -d 'Existing calls that differ' -r -f -a "replace\t'They get the values of the file'
leave\t'They stay as they are'"
complete -c callstats -n "__fish_callstats_using_subcommand load" -l if-loaded -d 'Known files [default: skip; other mapping: refuse]' -r -f -a "skip\t'They are passed over, whatever they were loaded with'
refuse\t'They are an error'"
complete -c callstats -n "__fish_callstats_using_subcommand load" -l company -d 'The company of all calls' -r
complete -c callstats -n "__fish_callstats_using_subcommand load" -l organization -d 'The organization of all calls' -r
complete -c callstats -n "__fish_callstats_using_subcommand load" -l folder -d 'The folder of all calls' -r
complete -c callstats -n "__fish_callstats_using_subcommand load" -l column -d 'The column of call, company, organization, folder, agent, start or duration' -r
complete -c callstats -n "__fish_callstats_using_subcommand load" -l filter -d 'Only records for which this holds, such as disposition=ANSWERED or billsec>0' -r
complete -c callstats -n "__fish_callstats_using_subcommand load" -l start-pattern -d 'How starts are written: \'DD.MM.YYYY HH24:MI\' or \'%d/%m/%Y %H:%M\'' -r
complete -c callstats -n "__fish_callstats_using_subcommand load" -l start-unit -d 'Starts are numbers since 1970: s, ms, us, ns; days are those of spreadsheets' -r
complete -c callstats -n "__fish_callstats_using_subcommand load" -l time-zone -d 'IANA zone of starts without an offset [default: that of the organization]' -r
complete -c callstats -n "__fish_callstats_using_subcommand load" -l unit -d 'Unit of the duration: s, ms, us, ns, min, h, days, hms' -r
complete -c callstats -n "__fish_callstats_using_subcommand load" -l format -d 'csv, json or xml [default: by the content]' -r
complete -c callstats -n "__fish_callstats_using_subcommand load" -l encoding -d 'Encoding, such as windows-1252 [default: UTF-8, or UTF-16 by the content]' -r
complete -c callstats -n "__fish_callstats_using_subcommand load" -l delimiter -d 'Delimiter of the columns [default: by the header]' -r
complete -c callstats -n "__fish_callstats_using_subcommand load" -l quote -d 'Quote character; \'\' for no quotes' -r
complete -c callstats -n "__fish_callstats_using_subcommand load" -l escape -d 'Escape character before a quote in a column [default: a second quote]' -r
complete -c callstats -n "__fish_callstats_using_subcommand load" -l decimal -d 'The decimal point [default: . and with the delimiter ; also a comma]' -r
complete -c callstats -n "__fish_callstats_using_subcommand load" -l columns -d 'Names for the columns' -r
complete -c callstats -n "__fish_callstats_using_subcommand load" -l records -d 'Where records are: in JSON a path, in XML an element' -r
complete -c callstats -n "__fish_callstats_using_subcommand load" -l database -d 'Database of a command [default: DATABASE_URL, else as psql: PGHOST, ...]' -r
complete -c callstats -n "__fish_callstats_using_subcommand load" -l check -d 'Prints what would be loaded, and writes nothing'
complete -c callstats -n "__fish_callstats_using_subcommand load" -l json -d 'One JSON object instead of a summary'
complete -c callstats -n "__fish_callstats_using_subcommand load" -l again -d 'Loads a known file again: delete its calls first, or those without ids count twice'
complete -c callstats -n "__fish_callstats_using_subcommand load" -l no-header -d 'The first line is a record; columns are called 1, 2, ...'
complete -c callstats -n "__fish_callstats_using_subcommand load" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c callstats -n "__fish_callstats_using_subcommand completions" -l database -d 'Database of a command [default: DATABASE_URL, else as psql: PGHOST, ...]' -r
complete -c callstats -n "__fish_callstats_using_subcommand completions" -s h -l help -d 'Print help'
complete -c callstats -n "__fish_callstats_using_subcommand manual" -l database -d 'Database of a command [default: DATABASE_URL, else as psql: PGHOST, ...]' -r
complete -c callstats -n "__fish_callstats_using_subcommand manual" -s h -l help -d 'Print help'
