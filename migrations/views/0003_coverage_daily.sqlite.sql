CREATE VIEW coverage_daily AS
SELECT
    coverage.account_id AS account_id,
    account.name AS account,
    coverage.call_date AS call_date,
    coverage.calls AS calls,
    coverage.duration AS duration,
    coverage.charge / 1000000.0 AS cost,
    coverage.charge AS cost_micros,
    coverage.downloaded_at AS downloaded_at,
    coverage.audited_at AS audited_at,
    coverage.verdict AS verdict,
    coverage.operator_calls AS operator_calls,
    coverage.operator_duration AS operator_duration,
    coverage.operator_charge / 1000000.0 AS operator_cost,
    coverage.operator_charge AS operator_cost_micros,
    coverage.note AS note,
    coverage.pruned AS pruned
FROM coverage
LEFT JOIN account ON account.id = coverage.account_id
