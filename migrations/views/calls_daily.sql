-- Calls of each account and day. Days without a call are absent: join calendar for them
CREATE VIEW calls_daily AS
SELECT
    figures.account_id AS account_id,  -- integer: Our number of the account
    account.name AS account,  -- text: The account's name in the configuration
    figures.call_date AS call_date,  -- date: Day, UK wall clock
    {figures}
FROM (
    SELECT
        call_day.account_id,
        call_day.call_date,
        {figures_of_call_day}
    {from_summed_days: day}
    UNION ALL
    SELECT
        cdr.account_id,
        cdr.call_date,
        {figures_of_calls}
    {from_other_days}
    WHERE NOT coverage.summed
    GROUP BY cdr.account_id, cdr.call_date
) AS figures
LEFT JOIN account ON account.id = figures.account_id
