-- Calls of each account, day and number of yours. Days on which a number was not called are absent
CREATE VIEW numbers_daily AS
SELECT
    figures.account_id AS account_id,  -- integer: Our number of the account
    account.name AS account,  -- text: The account's name in the configuration
    figures.call_date AS call_date,  -- date: Day, UK wall clock
    figures.called_number AS called_number,  -- text: Your number, as sent: UK national without the leading 0
    {figures}
FROM (
    SELECT
        call_day.account_id,
        call_day.call_date,
        call_day.called_number,
        {figures_of_call_day}
    {from_summed_days: number}
    UNION ALL
    SELECT
        cdr.account_id,
        cdr.call_date,
        cdr.bnumber AS called_number,
        {figures_of_calls}
    {from_other_days}
    WHERE NOT coverage.summed
    GROUP BY cdr.account_id, cdr.call_date, cdr.bnumber
) AS figures
LEFT JOIN account ON account.id = figures.account_id
