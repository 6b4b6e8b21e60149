"""The operator's API: HTTP bytes in, typed answers out.

`api` speaks HTTP over `wire`, builds documents with `request` and tries again through `retry`; `decode` turns the bytes
of an answer into an `envelope` of responses: `printed` reads the operator's printed shape fast, `tree` everything else;
`record`, `totals` and `clock` hold the rules for single values.
"""
