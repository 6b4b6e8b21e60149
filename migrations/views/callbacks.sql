-- Each missed call beside the next answered call of the same caller, in the same account, however either was spelled
CREATE VIEW callbacks AS
WITH otherwise AS (
    SELECT cdr.account_id, spelling.usual, cdr.started_at, cdr.uid
    FROM number AS spelling
    CROSS JOIN cdr
    WHERE spelling.usual IS NOT NULL AND cdr.anumber = spelling.number AND {is_answered}
)
SELECT
    missed.account_id AS account_id,  -- integer: Our number of the account
    account.name AS account,  -- text: The account's name in the configuration
    missed.uid AS uid,  -- bigint: The missed call
    missed.call_date AS call_date,  -- date: Day it began, UK wall clock
    missed.started_at AS started_at,  -- timestamptz: When it began, UTC
    {wall_clock: missed.call_date; missed.call_time} AS started_local,  -- timestamp: The same, UK wall clock
    missed.anumber AS caller_number,  -- text: Caller, as sent
    missed.bnumber AS called_number,  -- text: Your number that was called, as sent
    {name: missed.alias} AS alias,  -- text: Name given to your number
    {earlier: uid} AS answered_uid,  -- bigint: The caller's next answered call; NULL: none yet, or the caller is withheld
    {earlier: started_at} AS answered_at,  -- timestamptz: When that call began, UTC
    {seconds_between: missed.started_at; {earlier: started_at}} AS seconds_between,
    -- bigint: From the beginning of the missed call to that of the answered one
    caller.national AS caller_national,  -- text: Caller as dialled in the UK; NULL: no telephone number
    {caller_kind: missed.anumber} AS caller_kind,
    -- text: mobile, landline, freephone and so on; withheld, international (not +44), or unknown
    COALESCE({withheld: missed.anumber}, FALSE) AS caller_withheld,
    -- boolean: The same as caller_kind = 'withheld', and quicker: no table of numbers is asked
    {usual: missed.anumber} AS caller
    -- text: Caller in one spelling, the operator's own (7700900123), whatever was sent: group by it. Withheld ones as sent
FROM cdr AS missed
{usually: missed.anumber}
LEFT JOIN cdr AS answered
    ON answered.account_id = missed.account_id
    AND answered.uid = CASE WHEN NOT {withheld: missed.anumber} THEN (
        SELECT cdr.uid
        FROM cdr
        WHERE cdr.account_id = missed.account_id
            AND cdr.anumber = {usual: missed.anumber}
            AND cdr.started_at > missed.started_at
            AND {is_answered}
        ORDER BY cdr.anumber, cdr.started_at
        LIMIT 1
    ) END
LEFT JOIN cdr AS respelt  -- the same, where the answered call came in another spelling
    ON respelt.account_id = missed.account_id
    AND respelt.uid = CASE WHEN NOT {withheld: missed.anumber} THEN (
        SELECT otherwise.uid
        FROM otherwise
        WHERE otherwise.usual = {usual: missed.anumber}
            AND otherwise.account_id = missed.account_id
            AND otherwise.started_at > missed.started_at
            {before_answered}
        ORDER BY otherwise.started_at
        LIMIT 1
    ) END
LEFT JOIN account ON account.id = missed.account_id
LEFT JOIN number AS caller ON caller.number = missed.anumber
WHERE missed.reason <> 1
