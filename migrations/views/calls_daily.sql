-- Calls of each account and day. Days without a call are absent: join calendar for them
CREATE VIEW calls_daily AS
SELECT
    figures.account_id AS account_id,  -- integer: Our number of the account
    figures.account AS account,  -- text: The account's name in the configuration
    figures.call_date AS call_date,  -- date: Day, UK wall clock
    {figures}
FROM (
    {summed: day; place}
    UNION ALL
    {counted_anew: place; cdr.account_id; {calls_of_other_days}}
) AS figures
