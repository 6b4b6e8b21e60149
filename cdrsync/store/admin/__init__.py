"""The schema's own work: migrations, the dictionary, grants."""
