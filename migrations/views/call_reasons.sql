-- What the codes in reason and reason_q805 mean, and who says so; others are unknown
CREATE VIEW call_reasons AS
-- Only what somebody has published. The calls' own reason_label and reason_q805_label say the same.
SELECT
    {label: reasons.column_name} AS column_name,  -- text: reason or reason_q805
    reasons.code AS code,  -- integer: The code
    {label: reasons.label} AS label,  -- text: Its meaning, or unknown
    {label: reasons.provenance} AS provenance  -- text: Where the meaning comes from
FROM (
    -- Every column is named in every part: a dump of MySQL makes a name of a nameless text, and no name is so long.
    SELECT
        'reason' AS column_name,
        1 AS code,
        'completed' AS label,
        'operator: every published sample with a duration has it' AS provenance
    UNION ALL
    SELECT
        'reason' AS column_name,
        2 AS code,
        'unknown' AS label,
        'operator: in published samples without a duration, not explained' AS provenance
    UNION ALL
    SELECT
        'reason' AS column_name,
        1015 AS code,
        'unknown' AS label,
        'operator: in a published sample without a duration, not explained' AS provenance
    UNION ALL
    SELECT
        'reason_q805' AS column_name,
        0 AS code,
        'unknown' AS label,
        'operator: in published samples without a duration, not explained' AS provenance
    UNION ALL
    SELECT
        'reason_q805' AS column_name,
        1 AS code,
        'completed' AS label,
        'operator: every published sample with a duration has it, so it is not cause 1 of Q.850 (unallocated number)' AS provenance
    UNION ALL
    SELECT
        'reason_q805' AS column_name,
        487 AS code,
        'request terminated (SIP)' AS label,
        'RFC 3261: the status of a call given up before it was answered; the operator does not say that it means this' AS provenance
) AS reasons
