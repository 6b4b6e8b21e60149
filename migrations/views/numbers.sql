-- Your numbers: each number of an account that was called, with its name, first and last call and totals
CREATE VIEW numbers AS
SELECT
    figures.account_id AS account_id,  -- integer: Our number of the account
    account.name AS account,  -- text: The account's name in the configuration
    figures.called_number AS called_number,  -- text: The number, as sent: UK national without the leading 0
    called.e164 AS called_e164,  -- text: The number in international form
    CASE
        WHEN SUBSTR(called.e164, 1, 3) <> '+44' THEN 'international'
        ELSE COALESCE(called.kind, 'unknown')
    END AS called_kind,  -- text: Kind of the number: landline, freephone, company and so on
    called.region AS called_region,  -- text: Its country, ISO 3166
    named.alias AS alias,  -- text: Its name in the newest call that has one (by uid)
    figures.first_call_at AS first_call_at,  -- timestamptz: When its first call held began, UTC
    figures.last_call_at AS last_call_at,  -- timestamptz: When its last call held began, UTC
    {figures}
FROM (
    SELECT
        account_id,
        called_number,
        {sum_of_figures}
    FROM (
        {summed_months: number; called_number}
        UNION ALL
        {counted: called_number; cdr.bnumber; {calls_of_other_days}}
    ) AS days
    GROUP BY account_id, called_number
) AS figures
LEFT JOIN cdr AS named ON named.account_id = figures.account_id AND named.uid = figures.named_uid
LEFT JOIN account ON account.id = figures.account_id
LEFT JOIN number AS called ON called.number = figures.called_number
