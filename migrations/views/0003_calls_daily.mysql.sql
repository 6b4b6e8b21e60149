CREATE VIEW calls_daily AS
SELECT
    figures.account_id AS account_id,
    account.name AS account,
    figures.call_date AS call_date,
    figures.calls AS calls,
    figures.answered AS answered,
    figures.voicemail AS voicemail,
    figures.missed AS missed,
    figures.unknown AS unknown,
    figures.duration AS duration,
    figures.cost AS cost,
    figures.cost_micros AS cost_micros
FROM (
    SELECT
        cdr.account_id,
        cdr.call_date,
        COUNT(*) AS calls,
        COUNT(CASE WHEN cdr.reason = 1 AND COALESCE(SUBSTR(cdr.dialled, 1, 2), '') <> 'V:' THEN 1 END) AS answered,
        COUNT(CASE WHEN cdr.reason = 1 AND SUBSTR(cdr.dialled, 1, 2) = 'V:' THEN 1 END) AS voicemail,
        COUNT(CASE WHEN cdr.reason <> 1 THEN 1 END) AS missed,
        COUNT(CASE WHEN cdr.reason IS NULL THEN 1 END) AS unknown,
        CAST(SUM(cdr.duration) AS SIGNED) AS duration,
        SUM(cdr.user_cost) AS cost,
        CAST(SUM(cdr.user_cost) * 1000000 AS SIGNED) AS cost_micros
    FROM cdr
    GROUP BY cdr.account_id, cdr.call_date
) AS figures
LEFT JOIN account ON account.id = figures.account_id
