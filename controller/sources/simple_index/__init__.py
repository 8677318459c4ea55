"""Packages of a simple index (PEP 503, 691, 700).

`source` is what the daemon asks, `web` reads within bounds, `pages` parses, `selection` picks the
wheels, `hashes` computes what an index does not tell, `credentials` has the passwords.
"""
