-- Each known value of a call that the operator changed later
CREATE VIEW changes AS
SELECT
    cdr_change.id AS id,  -- bigint: Order of the changes
    cdr_change.account_id AS account_id,  -- integer: Our number of the account
    account.name AS account,  -- text: The account's name in the configuration
    cdr_change.uid AS uid,  -- bigint: The call
    cdr_change.changed_at AS changed_at,  -- timestamptz: When cdrsync saw it, UTC
    cdr_change.column_name AS column_name,  -- text: Column of cdr that changed
    cdr_change.old_value AS old_value,  -- text: Before, as text
    cdr_change.new_value AS new_value,  -- text: After, as text
    cdr.call_date AS call_date,  -- date: Day the call began, UK wall clock
    cdr.started_at AS started_at,  -- timestamptz: When the call began, UTC
    cdr.bnumber AS called_number  -- text: Your number that was called, as sent
FROM cdr_change
LEFT JOIN account ON account.id = cdr_change.account_id
LEFT JOIN cdr ON cdr.account_id = cdr_change.account_id AND cdr.uid = cdr_change.uid
