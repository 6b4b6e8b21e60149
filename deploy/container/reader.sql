-- Who may look at the calls and change nothing: Grafana, and whatever else reports. Run once, as the tables' owner.
CREATE ROLE reader LOGIN PASSWORD 'only-for-this-demo';
ALTER ROLE reader SET default_transaction_read_only = on;
GRANT USAGE ON SCHEMA public TO reader;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO reader;
