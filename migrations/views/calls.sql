-- One row per call, readable. Filter by call_date, which is indexed
CREATE VIEW calls AS
SELECT
    cdr.account_id AS account_id,  -- integer: Our number of the account
    account.name AS account,  -- text: The account's name in the configuration
    cdr.uid AS uid,  -- bigint: The operator's number of the record; grows with time, with gaps
    cdr.ref AS ref,  -- text: The operator's reference of the call
    cdr.started_at AS started_at,  -- timestamptz: When the call began, UTC
    {plus_seconds: cdr.started_at; cdr.duration} AS ended_at,  -- timestamptz: started_at and the duration, UTC
    {wall_clock: cdr.call_date; cdr.call_time} AS started_local,
    -- timestamp: When the call began, UK wall clock, as sent
    cdr.call_date AS call_date,
    -- date: Day the call began, UK wall clock, as sent: the column to filter on, it is indexed
    cdr.call_time AS call_time,  -- time: Time of day the call began, UK wall clock, as sent
    {hour: cdr.call_time} AS call_hour,  -- integer: Hour of call_time, 0 to 23
    cdr.wall_clock AS wall_clock,
    -- text: How started_at was read where the clocks change: repeated-first, repeated-second, repeated-unknown (first
    -- pass assumed), skipped; NULL: plain
    {label: {outcome}} AS outcome,
    -- text: answered, voicemail, missed or unknown: reason 1 is completed, to V: is voicemail, every other reason
    -- missed. The operator does not document how its totals sort calls
    CASE
        WHEN cdr.reason IS NULL THEN NULL
        ELSE {is_answered}
    END AS answered,  -- boolean: outcome is answered; NULL: the operator gave no reason
    {label: CASE
        WHEN cdr.dialled IS NULL THEN 'unknown'
        WHEN cdr.dialled IN ('', '0') THEN 'nowhere'
        WHEN SUBSTR(cdr.dialled, 1, 2) = 'V:' THEN 'voicemail'
        ELSE 'number'
    END} AS forwarded_to,  -- text: Where the call went: number, voicemail, nowhere, or unknown
    cdr.anumber AS caller_number,
    -- text: Caller, as sent, mostly UK national without the leading 0 (caller has one spelling); empty: withheld; ~ and
    -- letters: a pseudonym
    caller.e164 AS caller_e164,  -- text: Caller in international form, +44...; NULL: none, or no valid number
    caller.national AS caller_national,
    -- text: Caller as dialled in the UK: 07700900123, or 00 and the country's code; NULL: no telephone number
    {caller_kind: cdr.anumber} AS caller_kind,
    -- text: mobile, landline, freephone and so on; withheld, international (not +44), or unknown
    CASE WHEN SUBSTR(caller.e164, 1, 3) <> '+44' THEN 'plan' ELSE caller.kind_source END AS caller_kind_source,
    -- text: Who says the kind: plan (the public numbering plans) or operator (its own words); NULL: nobody
    caller.region AS caller_region,  -- text: Caller's country, ISO 3166
    NULLIF(cdr.anumber_location, '') AS caller_location,  -- text: Where or what the caller is, in the operator's words
    cdr.bnumber AS called_number,  -- text: Your number that was called, as sent: UK national without the leading 0
    called.e164 AS called_e164,  -- text: Your number in international form
    CASE
        WHEN SUBSTR(called.e164, 1, 3) <> '+44' THEN 'international'
        ELSE COALESCE(called.kind, 'unknown')
    END AS called_kind,  -- text: Kind of your number: landline, freephone, company and so on
    {name: cdr.alias} AS alias,
    -- text: Name given to your number; NULL where there is none
    cdr.dialled AS destination_number,
    -- text: Where the call was sent, as sent: 0 nowhere, digits with country code, or V: and an e-mail address
    destination.e164 AS destination_e164,  -- text: Destination in international form; NULL: no telephone number
    {destination_kind} AS destination_kind,  -- text: mobile, landline and so on; voicemail, none, international (not +44), or unknown
    destination.region AS destination_region,  -- text: Destination's country, ISO 3166
    NULLIF(cdr.dialled_location, '') AS destination_location,
    -- text: Where or what the destination is, in the operator's words
    cdr.duration AS duration,  -- integer: Seconds
    cdr.ring_time AS ring_time,  -- integer: Seconds; NULL: not said
    {pounds: cdr.user_cost} AS cost,  -- numeric: Pounds, exact
    {micros: cdr.user_cost} AS cost_micros,
    -- bigint: The cost in millionths of a pound, exact in every tool: add these up, then divide by 1000000
    cdr.reason AS reason,  -- integer: Why the call ended, the operator's code
    {label: CASE WHEN cdr.reason IS NULL THEN NULL WHEN cdr.reason = 1 THEN 'completed' ELSE 'unknown' END} AS reason_label,
    -- text: The code's meaning where one is published (see call_reasons), otherwise unknown
    cdr.reason_q805 AS reason_q805,  -- integer: A second code of the operator's for why it ended
    {label: CASE
        WHEN cdr.reason_q805 IS NULL THEN NULL
        WHEN cdr.reason_q805 = 1 THEN 'completed'
        WHEN cdr.reason_q805 = 487 THEN 'request terminated (SIP)'
        ELSE 'unknown'
    END} AS reason_q805_label,  -- text: The code's meaning where one is published (see call_reasons), otherwise unknown
    cdr.has_recorded_call AS has_recorded_call,  -- boolean: A recording is kept; NULL: the operator did not say
    cdr.has_voicemail_recording AS has_voicemail_recording,
    -- boolean: A voicemail is kept; NULL: the operator did not say
    cdr.has_fax_document AS has_fax_document,  -- boolean: A fax is kept; NULL: the operator did not say
    cdr.extra AS extra,  -- json: Elements of the record that cdrsync does not know: name and text
    cdr.first_seen_at AS first_seen_at,  -- timestamptz: When the call was first stored, UTC
    cdr.changed_at AS changed_at,  -- timestamptz: When a value of the call last changed, UTC
    COALESCE({is_withheld}, FALSE) AS caller_withheld,
    -- boolean: The same as caller_kind = 'withheld', and quicker: no table of numbers is asked
    {usual: cdr.anumber} AS caller
    -- text: Caller in one spelling, the operator's own (7700900123), whatever was sent: group by it. Withheld ones as sent
FROM cdr
{usually: cdr.anumber}
LEFT JOIN account ON account.id = cdr.account_id
LEFT JOIN number AS caller ON caller.number = cdr.anumber
LEFT JOIN number AS called ON called.number = cdr.bnumber
LEFT JOIN number AS destination ON destination.number = cdr.dialled
