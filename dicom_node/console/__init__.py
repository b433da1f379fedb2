"""The web page for administrators: what the ledger knows, and what they may do about it."""
