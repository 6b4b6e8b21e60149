"""What must be forgotten, and stays forgotten."""
