-- Calls of each account, day and hour, counted from the calls that are held
CREATE VIEW calls_hourly AS
SELECT
    figures.account_id AS account_id,  -- integer: Our number of the account
    account.name AS account,  -- text: The account's name in the configuration
    figures.call_date AS call_date,  -- date: Day, UK wall clock
    figures.call_hour AS call_hour,  -- integer: Hour of the UK wall clock, 0 to 23; in autumn one hour holds two
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
        cdr.account_id,
        cdr.call_date,
        {hour: cdr.call_time} AS call_hour,
        COUNT(*) AS calls,
        COUNT(CASE WHEN cdr.reason = 1 AND COALESCE(SUBSTR(cdr.dialled, 1, 2), '') <> 'V:' THEN 1 END) AS answered,
        COUNT(CASE WHEN cdr.reason = 1 AND SUBSTR(cdr.dialled, 1, 2) = 'V:' THEN 1 END) AS voicemail,
        COUNT(CASE WHEN cdr.reason <> 1 THEN 1 END) AS missed,
        COUNT(CASE WHEN cdr.reason IS NULL THEN 1 END) AS unknown,
        {bigint: SUM(cdr.duration)} AS duration,
        {pounds: SUM(cdr.user_cost)} AS cost,
        {micros: SUM(cdr.user_cost)} AS cost_micros
    FROM cdr
    GROUP BY cdr.account_id, cdr.call_date, {hour: cdr.call_time}
) AS figures
LEFT JOIN account ON account.id = figures.account_id
