"""What is true of every resource: addresses, paging, etags."""
