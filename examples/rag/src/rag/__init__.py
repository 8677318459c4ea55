"""A wheelway pipeline that answers questions from the Constitution of the United States."""
