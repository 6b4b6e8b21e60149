-- Each missed call beside the next answered call of the same caller, in the same account
CREATE VIEW callbacks AS
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
    answered.uid AS answered_uid,  -- bigint: The caller's next answered call; NULL: none yet, or the caller is withheld
    answered.started_at AS answered_at,  -- timestamptz: When that call began, UTC
    {seconds_between: missed.started_at; answered.started_at} AS seconds_between,
    -- bigint: From the beginning of the missed call to that of the answered one
    caller.national AS caller_national,  -- text: Caller as dialled in the UK; NULL: no telephone number
    {caller_kind: missed.anumber} AS caller_kind,
    -- text: mobile, landline, freephone and so on; withheld, international (not +44), or unknown
    COALESCE({withheld: missed.anumber}, FALSE) AS caller_withheld
    -- boolean: The same as caller_kind = 'withheld', and quicker: no table of numbers is asked
FROM cdr AS missed
LEFT JOIN cdr AS answered
    ON answered.account_id = missed.account_id
    AND NOT {withheld: missed.anumber}
    AND answered.uid = (
        SELECT cdr.uid
        FROM cdr
        WHERE cdr.account_id = missed.account_id
            AND cdr.anumber = missed.anumber
            AND cdr.started_at > missed.started_at
            AND {is_answered}
        ORDER BY cdr.anumber, cdr.started_at, cdr.uid
        LIMIT 1
    )
LEFT JOIN account ON account.id = missed.account_id
LEFT JOIN number AS caller ON caller.number = missed.anumber
WHERE missed.reason <> 1
