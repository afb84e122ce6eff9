"""Documents on MongoDB: the driver seam, commit groups, grouped reads, and the embedded engine."""
