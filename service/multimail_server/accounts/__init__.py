"""Accounts and their API keys: who calls, and what they may do."""
