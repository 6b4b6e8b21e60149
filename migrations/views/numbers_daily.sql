-- Calls of each account, day and number of yours. Days on which a number was not called are absent
CREATE VIEW numbers_daily AS
SELECT
    figures.account_id AS account_id,  -- integer: Our number of the account
    figures.account AS account,  -- text: The account's name in the configuration
    figures.call_date AS call_date,  -- date: Day, UK wall clock
    figures.called_number AS called_number,  -- text: Your number, as sent: UK national without the leading 0
    named.alias AS alias,  -- text: Its name in the newest call of the day that has one (by uid)
    {figures}
FROM (
    {summed: number; called_number}
    UNION ALL
    {counted_anew: called_number; cdr.bnumber; {calls_of_other_days}}
) AS figures
LEFT JOIN cdr AS named ON named.account_id = figures.account_id AND named.uid = figures.named_uid
