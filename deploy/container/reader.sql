-- Who may look at the calls and change nothing: Grafana. For this demo only, run once by the superuser
-- that owns its tables. For a database of your own: CREATE ROLE, then cdrsync db grant-reader --tables ROLE.
CREATE ROLE reader LOGIN PASSWORD 'only-for-this-demo';
ALTER ROLE reader SET default_transaction_read_only = on;
GRANT USAGE ON SCHEMA public TO reader;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO reader;
