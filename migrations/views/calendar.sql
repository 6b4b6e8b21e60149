-- Every day of the years in the ledger, calls or none: join on call_date to show days without a call
CREATE VIEW calendar AS
SELECT
    {day: days.call_date} AS call_date,  -- date: The day
    {year: days.call_date} AS year,  -- integer: Year
    {quarter: days.call_date} AS quarter,  -- integer: Quarter, 1 to 4
    {month: days.call_date} AS month,  -- integer: Month, 1 to 12
    {label: CASE {month: days.call_date}
        WHEN 1 THEN 'January' WHEN 2 THEN 'February' WHEN 3 THEN 'March' WHEN 4 THEN 'April' WHEN 5 THEN 'May'
        WHEN 6 THEN 'June' WHEN 7 THEN 'July' WHEN 8 THEN 'August' WHEN 9 THEN 'September' WHEN 10 THEN 'October'
        WHEN 11 THEN 'November' WHEN 12 THEN 'December'
    END} AS month_name,  -- text: January to December
    {month_start: days.call_date} AS month_start,  -- date: First day of its month
    {iso_year: days.call_date} AS iso_year,  -- integer: Year of its ISO 8601 week
    {iso_week: days.call_date} AS iso_week,  -- integer: ISO 8601 week, 1 to 53
    {week_start: days.call_date} AS week_start,  -- date: Monday of its week
    {day_of_month: days.call_date} AS day_of_month,  -- integer: 1 to 31
    {weekday: days.call_date} AS weekday,  -- integer: 1 Monday to 7 Sunday
    {label: CASE {weekday: days.call_date}
        WHEN 1 THEN 'Monday' WHEN 2 THEN 'Tuesday' WHEN 3 THEN 'Wednesday' WHEN 4 THEN 'Thursday' WHEN 5 THEN 'Friday'
        WHEN 6 THEN 'Saturday' WHEN 7 THEN 'Sunday'
    END} AS weekday_name,  -- text: Monday to Sunday
    {weekday: days.call_date} >= 6 AS is_weekend,  -- boolean: Saturday or Sunday
    {label: CASE
        WHEN {weekday: days.call_date} <> 7 OR {day_of_month: days.call_date} < 25 OR {year: days.call_date} < 1996
        THEN NULL
        WHEN {month: days.call_date} = 3 THEN 'forward'
        WHEN {month: days.call_date} = 10 THEN 'back'
    END} AS clocks_go  -- text: UK clock change on this day: forward, back or NULL (rule of 1996)
FROM (
    {days_of_the_ledger}
) AS days
