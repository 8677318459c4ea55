"""A wheelway pipeline that asks two models about a customer at the same time."""
