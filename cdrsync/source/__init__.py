"""The operator's API: HTTP bytes in, typed answers out.

`api` asks: `request` builds the documents, `session` logs in, `transport` carries, `retry` tries again. `http_answer`
reads what comes within bounds; `decode` turns its bytes into a `response` for each request (`xml_fast` the usual form,
`xml_any` every other); `record` and `clock` hold the rules for single values; `answers` matches responses to the asks.
"""
