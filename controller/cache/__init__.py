"""The cache: what was fetched, checked and built, and can be thrown away.

`wheels` keeps them and their trees by digest and decides whether one is served, `author_options`
reads what its author asks for, `environments` installs what it requires. Nothing here imports or
runs anything of a wheel.
"""
