-- Recursion stops at 1000 rows by default, hence the digits: 40,000 days, from 1990 to 2099.
CREATE VIEW calendar AS
SELECT
    days.call_date AS call_date,
    YEAR(days.call_date) AS year,
    QUARTER(days.call_date) AS quarter,
    MONTH(days.call_date) AS month,
    ELT(
        MONTH(days.call_date), 'January', 'February', 'March', 'April', 'May', 'June', 'July', 'August', 'September',
        'October', 'November', 'December'
    ) AS month_name,
    days.call_date - INTERVAL DAYOFMONTH(days.call_date) - 1 DAY AS month_start,
    YEARWEEK(days.call_date, 3) DIV 100 AS iso_year,
    WEEK(days.call_date, 3) AS iso_week,
    days.call_date - INTERVAL WEEKDAY(days.call_date) DAY AS week_start,
    DAYOFMONTH(days.call_date) AS day_of_month,
    WEEKDAY(days.call_date) + 1 AS weekday,
    ELT(
        WEEKDAY(days.call_date) + 1, 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday', 'Sunday'
    ) AS weekday_name,
    WEEKDAY(days.call_date) >= 5 AS is_weekend,
    CASE
        WHEN WEEKDAY(days.call_date) <> 6 OR DAYOFMONTH(days.call_date) < 25 OR YEAR(days.call_date) < 1996 THEN NULL
        WHEN MONTH(days.call_date) = 3 THEN 'forward'
        WHEN MONTH(days.call_date) = 10 THEN 'back'
    END AS clocks_go
FROM (
    SELECT
        MAKEDATE(years.first_year, 1) + INTERVAL
            units.n + 10 * tens.n + 100 * hundreds.n + 1000 * thousands.n + 10000 * ten_thousands.n DAY AS call_date,
        MAKEDATE(years.last_year + 1, 1) AS end_day
    FROM (
        SELECT YEAR(MIN(coverage.call_date)) AS first_year, YEAR(MAX(coverage.call_date)) AS last_year FROM coverage
    ) AS years
    CROSS JOIN (
        SELECT 0 AS n UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4
        UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9
    ) AS units
    CROSS JOIN (
        SELECT 0 AS n UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4
        UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9
    ) AS tens
    CROSS JOIN (
        SELECT 0 AS n UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4
        UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9
    ) AS hundreds
    CROSS JOIN (
        SELECT 0 AS n UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4
        UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9
    ) AS thousands
    CROSS JOIN (
        SELECT 0 AS n UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3
    ) AS ten_thousands
    WHERE years.first_year IS NOT NULL
) AS days
WHERE days.call_date < days.end_day
