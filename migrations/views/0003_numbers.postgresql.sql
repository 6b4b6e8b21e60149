CREATE VIEW numbers AS
SELECT
    figures.account_id AS account_id,
    account.name AS account,
    figures.bnumber AS called_number,
    called.e164 AS called_e164,
    CASE
        WHEN SUBSTR(called.e164, 1, 3) <> '+44' THEN 'international'
        ELSE COALESCE(called.kind, 'unknown')
    END AS called_kind,
    called.region AS called_region,
    SUBSTR(figures.newest_alias, 20) AS alias,
    figures.first_call_at AS first_call_at,
    figures.last_call_at AS last_call_at,
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
        cdr.bnumber,
        -- The alias of the highest uid, found in the same pass: the uid in 19 digits sorts before it.
        MAX(CASE WHEN cdr.alias NOT IN ('', '-') THEN LPAD(CAST(cdr.uid AS text), 19, '0') || cdr.alias END) AS newest_alias,
        MIN(cdr.started_at) AS first_call_at,
        MAX(cdr.started_at) AS last_call_at,
        COUNT(*) AS calls,
        COUNT(CASE WHEN cdr.reason = 1 AND COALESCE(SUBSTR(cdr.dialled, 1, 2), '') <> 'V:' THEN 1 END) AS answered,
        COUNT(CASE WHEN cdr.reason = 1 AND SUBSTR(cdr.dialled, 1, 2) = 'V:' THEN 1 END) AS voicemail,
        COUNT(CASE WHEN cdr.reason <> 1 THEN 1 END) AS missed,
        COUNT(CASE WHEN cdr.reason IS NULL THEN 1 END) AS unknown,
        SUM(cdr.duration) AS duration,
        SUM(cdr.user_cost) AS cost,
        CAST(SUM(cdr.user_cost) * 1000000 AS bigint) AS cost_micros
    FROM cdr
    GROUP BY cdr.account_id, cdr.bnumber
) AS figures
LEFT JOIN account ON account.id = figures.account_id
LEFT JOIN number AS called ON called.number = figures.bnumber
