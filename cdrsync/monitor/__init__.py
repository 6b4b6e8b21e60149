"""What is told: each account's activity, its status, metrics and logs."""
