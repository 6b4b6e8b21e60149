"""The algorithm: which pages are read, in which order, and what is true once they are saved."""
