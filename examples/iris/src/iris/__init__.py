"""A wheelway pipeline that names the species of iris flowers by their measurements."""
