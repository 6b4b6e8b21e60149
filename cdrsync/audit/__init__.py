"""Held against stated: what is held, compared with the operator's totals."""
