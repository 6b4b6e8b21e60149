"""What is read back from the tables, without the lease."""
