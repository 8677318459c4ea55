"""The cache: what was fetched, checked and built, and can be thrown away.

`store` keeps wheels and their trees by digest, `inspection` decides whether a wheel is one we
serve, `wishes` reads what its author asks for, `environments` installs what it requires. Nothing
here imports or runs anything of a wheel.
"""
