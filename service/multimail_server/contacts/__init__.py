"""Contacts: who people are, what is known of them, how they are found and forgotten."""
