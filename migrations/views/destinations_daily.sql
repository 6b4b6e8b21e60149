-- Calls of each account, day and kind of destination. Days without a call to a kind are absent
CREATE VIEW destinations_daily AS
SELECT
    figures.account_id AS account_id,  -- integer: Our number of the account
    account.name AS account,  -- text: The account's name in the configuration
    figures.call_date AS call_date,  -- date: Day, UK wall clock
    figures.destination_kind AS destination_kind,
    -- text: mobile, landline and so on; voicemail, none, international (not +44), or unknown
    {figures}
FROM (
    SELECT
        call_day.account_id,
        call_day.call_date,
        call_day.destination_kind,
        {figures_of_call_day}
    {from_summed_days: destination}
    UNION ALL
    SELECT
        cdr.account_id,
        cdr.call_date,
        {destination_kind} AS destination_kind,
        {figures_of_calls}
    {from_other_days}
    LEFT JOIN number AS destination ON destination.number = cdr.dialled
    WHERE NOT coverage.summed
    GROUP BY cdr.account_id, cdr.call_date, {destination_kind}
) AS figures
LEFT JOIN account ON account.id = figures.account_id
