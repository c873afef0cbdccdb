-- The login that `hub migrate --read-role` made gets a password that is known.
\set ON_ERROR_STOP on
\set password ''
\getenv reader HUB_READER
\getenv password HUB_READER_PASSWORD
SELECT :'password' = '' AS missing \gset
\if :missing
DO 'BEGIN RAISE EXCEPTION ''set HUB_READER_PASSWORD''; END';
\endif
ALTER ROLE :"reader" PASSWORD :'password';
