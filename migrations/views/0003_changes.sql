CREATE VIEW changes AS
SELECT
    cdr_change.id AS id,
    cdr_change.account_id AS account_id,
    account.name AS account,
    cdr_change.uid AS uid,
    cdr_change.changed_at AS changed_at,
    cdr_change.column_name AS column_name,
    cdr_change.old_value AS old_value,
    cdr_change.new_value AS new_value,
    cdr.call_date AS call_date,
    cdr.started_at AS started_at,
    cdr.bnumber AS called_number
FROM cdr_change
LEFT JOIN account ON account.id = cdr_change.account_id
LEFT JOIN cdr ON cdr.account_id = cdr_change.account_id AND cdr.uid = cdr_change.uid
