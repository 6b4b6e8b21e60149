"""Tables and the types of their columns."""
