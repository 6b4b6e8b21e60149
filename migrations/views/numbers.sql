-- Your numbers: each number of an account that was called, with its name, first and last call and totals
CREATE VIEW numbers AS
SELECT
    figures.account_id AS account_id,  -- integer: Our number of the account
    account.name AS account,  -- text: The account's name in the configuration
    figures.bnumber AS called_number,  -- text: The number, as sent: UK national without the leading 0
    called.e164 AS called_e164,  -- text: The number in international form
    CASE
        WHEN SUBSTR(called.e164, 1, 3) <> '+44' THEN 'international'
        ELSE COALESCE(called.kind, 'unknown')
    END AS called_kind,  -- text: Kind of the number: landline, freephone, company and so on
    called.region AS called_region,  -- text: Its country, ISO 3166
    named.alias AS alias,  -- text: Its name in the newest call that has one (by uid)
    figures.first_call_at AS first_call_at,  -- timestamptz: When its first call held began, UTC
    figures.last_call_at AS last_call_at,  -- timestamptz: When its last call held began, UTC
    figures.calls AS calls,  -- bigint: Calls
    figures.answered AS answered,  -- bigint: Calls with outcome answered
    figures.voicemail AS voicemail,  -- bigint: Calls with outcome voicemail
    figures.missed AS missed,  -- bigint: Calls with outcome missed
    figures.unknown AS unknown,  -- bigint: Calls with outcome unknown
    figures.duration AS duration,  -- bigint: Their duration, seconds
    figures.cost AS cost,  -- numeric: Their cost, pounds, exact
    figures.cost_micros AS cost_micros  -- bigint: Their cost in millionths of a pound, exact in every tool
FROM (
    SELECT
        account_id,
        bnumber,
        MAX(named_uid) AS named_uid,
        MIN(first_call_at) AS first_call_at,
        MAX(last_call_at) AS last_call_at,
        {bigint: SUM(calls)} AS calls,
        {bigint: SUM(CASE WHEN reason = 1 THEN calls - to_mailbox ELSE 0 END)} AS answered,
        {bigint: SUM(CASE WHEN reason = 1 THEN to_mailbox ELSE 0 END)} AS voicemail,
        {bigint: SUM(CASE WHEN reason <> 1 THEN calls ELSE 0 END)} AS missed,
        {bigint: SUM(CASE WHEN reason IS NULL THEN calls ELSE 0 END)} AS unknown,
        {bigint: SUM(duration)} AS duration,
        {pounds: SUM(cost)} AS cost,
        {micros: SUM(cost)} AS cost_micros
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
