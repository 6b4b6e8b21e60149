CREATE VIEW calendar AS
SELECT
    CAST(day AS date) AS call_date,
    CAST(EXTRACT(YEAR FROM day) AS integer) AS year,
    CAST(EXTRACT(QUARTER FROM day) AS integer) AS quarter,
    CAST(EXTRACT(MONTH FROM day) AS integer) AS month,
    TO_CHAR(day, 'FMMonth') AS month_name,
    CAST(DATE_TRUNC('month', day) AS date) AS month_start,
    CAST(EXTRACT(ISOYEAR FROM day) AS integer) AS iso_year,
    CAST(EXTRACT(WEEK FROM day) AS integer) AS iso_week,
    CAST(DATE_TRUNC('week', day) AS date) AS week_start,
    CAST(EXTRACT(DAY FROM day) AS integer) AS day_of_month,
    CAST(EXTRACT(ISODOW FROM day) AS integer) AS weekday,
    TO_CHAR(day, 'FMDay') AS weekday_name,
    EXTRACT(ISODOW FROM day) >= 6 AS is_weekend,
    CASE
        WHEN EXTRACT(ISODOW FROM day) <> 7 OR EXTRACT(DAY FROM day) < 25 OR EXTRACT(YEAR FROM day) < 1996 THEN NULL
        WHEN EXTRACT(MONTH FROM day) = 3 THEN 'forward'
        WHEN EXTRACT(MONTH FROM day) = 10 THEN 'back'
    END AS clocks_go
FROM (
    SELECT
        DATE_TRUNC('year', CAST(MIN(coverage.call_date) AS timestamp)) AS first_day,
        DATE_TRUNC('year', CAST(MAX(coverage.call_date) AS timestamp)) + INTERVAL '1 year' - INTERVAL '1 day' AS last_day
    FROM coverage
) AS years
CROSS JOIN GENERATE_SERIES(years.first_day, years.last_day, INTERVAL '1 day') AS day
