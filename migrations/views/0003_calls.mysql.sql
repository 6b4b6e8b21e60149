CREATE VIEW calls AS
SELECT
    cdr.account_id AS account_id,
    account.name AS account,
    cdr.uid AS uid,
    cdr.ref AS ref,
    cdr.started_at AS started_at,
    cdr.started_at + INTERVAL cdr.duration SECOND AS ended_at,
    TIMESTAMP(cdr.call_date, cdr.call_time) AS started_local,
    cdr.call_date AS call_date,
    cdr.call_time AS call_time,
    HOUR(cdr.call_time) AS call_hour,
    cdr.wall_clock AS wall_clock,
    CASE
        WHEN cdr.reason IS NULL THEN 'unknown'
        WHEN cdr.reason <> 1 THEN 'missed'
        WHEN SUBSTR(cdr.dialled, 1, 2) = 'V:' THEN 'voicemail'
        ELSE 'answered'
    END AS outcome,
    CASE
        WHEN cdr.reason IS NULL THEN NULL
        ELSE cdr.reason = 1 AND COALESCE(SUBSTR(cdr.dialled, 1, 2), '') <> 'V:'
    END AS answered,
    CASE
        WHEN cdr.dialled IS NULL THEN 'unknown'
        WHEN cdr.dialled IN ('', '0') THEN 'nowhere'
        WHEN SUBSTR(cdr.dialled, 1, 2) = 'V:' THEN 'voicemail'
        ELSE 'number'
    END AS forwarded_to,
    cdr.anumber AS caller_number,
    caller.e164 AS caller_e164,
    CASE
        WHEN cdr.anumber = '' THEN 'withheld'
        WHEN SUBSTR(caller.e164, 1, 3) <> '+44' THEN 'international'
        ELSE COALESCE(caller.kind, 'unknown')
    END AS caller_kind,
    caller.region AS caller_region,
    NULLIF(cdr.anumber_location, '') AS caller_location,
    cdr.bnumber AS called_number,
    called.e164 AS called_e164,
    CASE
        WHEN SUBSTR(called.e164, 1, 3) <> '+44' THEN 'international'
        ELSE COALESCE(called.kind, 'unknown')
    END AS called_kind,
    CASE WHEN cdr.alias NOT IN ('', '-') THEN cdr.alias END AS alias,
    cdr.dialled AS destination_number,
    destination.e164 AS destination_e164,
    CASE
        WHEN cdr.dialled IN ('', '0') THEN 'none'
        WHEN SUBSTR(cdr.dialled, 1, 2) = 'V:' THEN 'voicemail'
        WHEN SUBSTR(destination.e164, 1, 3) <> '+44' THEN 'international'
        ELSE COALESCE(destination.kind, 'unknown')
    END AS destination_kind,
    destination.region AS destination_region,
    NULLIF(cdr.dialled_location, '') AS destination_location,
    cdr.duration AS duration,
    cdr.ring_time AS ring_time,
    cdr.user_cost AS cost,
    CAST(cdr.user_cost * 1000000 AS SIGNED) AS cost_micros,
    cdr.reason AS reason,
    CASE WHEN cdr.reason IS NULL THEN NULL WHEN cdr.reason = 1 THEN 'completed' ELSE 'unknown' END AS reason_label,
    cdr.reason_q805 AS reason_q805,
    CASE
        WHEN cdr.reason_q805 IS NULL THEN NULL
        WHEN cdr.reason_q805 = 1 THEN 'completed'
        WHEN cdr.reason_q805 = 487 THEN 'request terminated (SIP)'
        ELSE 'unknown'
    END AS reason_q805_label,
    cdr.has_recorded_call AS has_recorded_call,
    cdr.has_voicemail_recording AS has_voicemail_recording,
    cdr.has_fax_document AS has_fax_document,
    cdr.extra AS extra,
    cdr.first_seen_at AS first_seen_at,
    cdr.changed_at AS changed_at
FROM cdr
LEFT JOIN account ON account.id = cdr.account_id
LEFT JOIN number AS caller ON caller.number = cdr.anumber
LEFT JOIN number AS called ON called.number = cdr.bnumber
LEFT JOIN number AS destination ON destination.number = cdr.dialled
