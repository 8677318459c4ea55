"""A wheelway pipeline that greets."""
