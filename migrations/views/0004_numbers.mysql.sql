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
    named.alias AS alias,
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
        account_id,
        bnumber,
        MAX(named_uid) AS named_uid,
        MIN(first_call_at) AS first_call_at,
        MAX(last_call_at) AS last_call_at,
        CAST(SUM(calls) AS SIGNED) AS calls,
        CAST(SUM(CASE WHEN reason = 1 THEN calls - to_mailbox ELSE 0 END) AS SIGNED) AS answered,
        CAST(SUM(CASE WHEN reason = 1 THEN to_mailbox ELSE 0 END) AS SIGNED) AS voicemail,
        CAST(SUM(CASE WHEN reason <> 1 THEN calls ELSE 0 END) AS SIGNED) AS missed,
        CAST(SUM(CASE WHEN reason IS NULL THEN calls ELSE 0 END) AS SIGNED) AS unknown,
        CAST(SUM(duration) AS SIGNED) AS duration,
        SUM(cost) AS cost,
        CAST(SUM(cost) * 1000000 AS SIGNED) AS cost_micros
    FROM (
        -- By reason first: what is asked of each call is little then, and the rest is asked of a few rows.
        SELECT
            cdr.account_id,
            cdr.bnumber,
            cdr.reason,
            MAX(CASE WHEN cdr.alias NOT IN ('', '-') THEN cdr.uid END) AS named_uid,
            MIN(cdr.started_at) AS first_call_at,
            MAX(cdr.started_at) AS last_call_at,
            COUNT(*) AS calls,
            COUNT(CASE WHEN SUBSTR(cdr.dialled, 1, 2) = 'V:' THEN 1 END) AS to_mailbox,
            SUM(cdr.duration) AS duration,
            SUM(cdr.user_cost) AS cost
        FROM cdr
        GROUP BY cdr.account_id, cdr.bnumber, cdr.reason
    ) AS by_reason
    GROUP BY account_id, bnumber
) AS figures
LEFT JOIN cdr AS named ON named.account_id = figures.account_id AND named.uid = figures.named_uid
LEFT JOIN account ON account.id = figures.account_id
LEFT JOIN number AS called ON called.number = figures.bnumber
