"""What each database does its own way, behind one port: one file is one database."""
