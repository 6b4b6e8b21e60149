CREATE VIEW calendar AS
WITH RECURSIVE
years AS (
    SELECT
        DATE(MIN(coverage.call_date), 'start of year') AS first_day,
        DATE(MAX(coverage.call_date), 'start of year', '+1 year', '-1 day') AS last_day
    FROM coverage
),
days (call_date, last_day) AS (
    SELECT years.first_day, years.last_day FROM years WHERE years.first_day IS NOT NULL
    UNION ALL
    SELECT DATE(days.call_date, '+1 day'), days.last_day FROM days WHERE days.call_date < days.last_day
),
parts AS (
    SELECT
        days.call_date,
        CAST(STRFTIME('%Y', days.call_date) AS integer) AS year,
        CAST(STRFTIME('%m', days.call_date) AS integer) AS month,
        CAST(STRFTIME('%d', days.call_date) AS integer) AS day_of_month,
        (CAST(STRFTIME('%w', days.call_date) AS integer) + 6) % 7 + 1 AS weekday,
        DATE(days.call_date, '-3 days', 'weekday 4') AS thursday  -- of the same ISO week: it decides year and week
    FROM days
)
SELECT
    parts.call_date AS call_date,
    parts.year AS year,
    (parts.month + 2) / 3 AS quarter,
    parts.month AS month,
    CASE parts.month
        WHEN 1 THEN 'January' WHEN 2 THEN 'February' WHEN 3 THEN 'March' WHEN 4 THEN 'April' WHEN 5 THEN 'May'
        WHEN 6 THEN 'June' WHEN 7 THEN 'July' WHEN 8 THEN 'August' WHEN 9 THEN 'September' WHEN 10 THEN 'October'
        WHEN 11 THEN 'November' WHEN 12 THEN 'December'
    END AS month_name,
    DATE(parts.call_date, 'start of month') AS month_start,
    CAST(STRFTIME('%Y', parts.thursday) AS integer) AS iso_year,
    (CAST(STRFTIME('%j', parts.thursday) AS integer) - 1) / 7 + 1 AS iso_week,
    DATE(parts.thursday, '-3 days') AS week_start,
    parts.day_of_month AS day_of_month,
    parts.weekday AS weekday,
    CASE parts.weekday
        WHEN 1 THEN 'Monday' WHEN 2 THEN 'Tuesday' WHEN 3 THEN 'Wednesday' WHEN 4 THEN 'Thursday' WHEN 5 THEN 'Friday'
        WHEN 6 THEN 'Saturday' WHEN 7 THEN 'Sunday'
    END AS weekday_name,
    parts.weekday >= 6 AS is_weekend,
    CASE
        WHEN parts.weekday <> 7 OR parts.day_of_month < 25 OR parts.year < 1996 THEN NULL
        WHEN parts.month = 3 THEN 'forward'
        WHEN parts.month = 10 THEN 'back'
    END AS clocks_go
FROM parts
