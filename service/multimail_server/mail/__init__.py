"""Mail: mailboxes, mails and threads, how they leave and arrive, and who watches over it."""
