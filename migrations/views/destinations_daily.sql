-- Calls of each account, day and kind of destination. Days without a call to a kind are absent
CREATE VIEW destinations_daily AS
SELECT
    figures.account_id AS account_id,  -- integer: Our number of the account
    figures.account AS account,  -- text: The account's name in the configuration
    figures.call_date AS call_date,  -- date: Day, UK wall clock
    figures.destination_kind AS destination_kind,
    -- text: mobile, landline and so on; voicemail, none, international (not +44), or unknown
    {figures}
FROM (
    {summed_destinations}
    UNION ALL
    {counted_anew: destination_kind; {destination_kind}; {calls_of_renumbered_days}}
) AS figures
