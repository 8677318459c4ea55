"""A wheelway pipeline that finds faces in pictures."""
