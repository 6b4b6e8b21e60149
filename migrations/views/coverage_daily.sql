-- The ledger of days: what is held of each, and whether it agrees with the operator's totals. Quick: nothing is counted
CREATE VIEW coverage_daily AS
SELECT
    coverage.account_id AS account_id,  -- integer: Our number of the account
    account.name AS account,  -- text: The account's name in the configuration
    coverage.call_date AS call_date,  -- date: Day, UK wall clock
    coverage.calls AS calls,  -- integer: Calls held, as counted when they were stored
    coverage.duration AS duration,  -- bigint: Their duration, seconds
    {pounds: coverage.charge} AS cost,  -- numeric: Their cost, pounds, exact
    {micros: coverage.charge} AS cost_micros,  -- bigint: Their cost in millionths of a pound, exact in every tool
    coverage.downloaded_at AS downloaded_at,
    -- timestamptz: When the whole day was last read to its end, UTC; NULL: never
    coverage.audited_at AS audited_at,  -- timestamptz: When it was last compared with the operator's totals, UTC
    coverage.verdict AS verdict,  -- text: unaudited, complete, gap, healed or accepted
    coverage.operator_calls AS operator_calls,  -- integer: Calls the operator counts, where it stated this day
    coverage.operator_duration AS operator_duration,  -- bigint: Duration the operator states, seconds
    {pounds: coverage.operator_charge} AS operator_cost,  -- numeric: Charge the operator states, pounds
    {micros: coverage.operator_charge} AS operator_cost_micros,  -- bigint: The same in millionths of a pound
    coverage.note AS note,  -- text: The audit's finding in words
    coverage.pruned AS pruned
    -- text: What retention made of the day's calls: pseudonymise or delete; NULL: nothing. The figures stay
FROM coverage
LEFT JOIN account ON account.id = coverage.account_id
