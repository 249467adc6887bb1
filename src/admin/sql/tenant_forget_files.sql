-- Files all of whose calls are in the company $1, or in its organization $2, or in the folder $3 of that.
delete from callstats.loaded_file
where case when $3::int is not null then folder_ids = array[$3::int]
           else organization_ids <@ array(select id from callstats.organization
                                          where company_id = $1::int and ($2::int is null or id = $2::int)) end
