-- Calls of each account, day and hour. Hours without a call are absent: join calendar and hours for them
CREATE VIEW calls_hourly AS
SELECT
    figures.account_id AS account_id,  -- integer: Our number of the account
    figures.account AS account,  -- text: The account's name in the configuration
    figures.call_date AS call_date,  -- date: Day, UK wall clock
    figures.call_hour AS call_hour,  -- integer: Hour of the UK wall clock, 0 to 23; in autumn one hour holds two
    {figures}
FROM (
    {summed: hour; call_hour}
    UNION ALL
    {counted_anew: call_hour; {hour: cdr.call_time}; {calls_of_other_days}}
) AS figures
