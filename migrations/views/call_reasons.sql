-- What the codes in reason and reason_q805 mean, and who says so; others are unknown
CREATE VIEW call_reasons AS
-- Only what somebody has published. The calls' own reason_label and reason_q805_label say the same.
SELECT
    'reason' AS column_name,  -- text: reason or reason_q805
    1 AS code,  -- integer: The code
    'completed' AS label,  -- text: Its meaning, or unknown
    'operator: every published sample with a duration has it' AS provenance  -- text: Where the meaning comes from
UNION ALL
SELECT 'reason', 2, 'unknown', 'operator: in published samples without a duration, not explained'
UNION ALL
SELECT 'reason', 1015, 'unknown', 'operator: in a published sample without a duration, not explained'
UNION ALL
SELECT 'reason_q805', 0, 'unknown', 'operator: in published samples without a duration, not explained'
UNION ALL
SELECT
    'reason_q805',
    1,
    'completed',
    'operator: every published sample with a duration has it, so it is not cause 1 of Q.850 (unallocated number)'
UNION ALL
SELECT
    'reason_q805',
    487,
    'request terminated (SIP)',
    'RFC 3261: the status of a call given up before it was answered; the operator does not say that it means this'
