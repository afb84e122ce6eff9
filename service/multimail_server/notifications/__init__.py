"""The account's numbered history and those who read it."""
