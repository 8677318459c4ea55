"""The wheelway daemon: it makes what runs on Ray Serve equal to what the sources publish.

The rooms and the one direction of imports between them: docs/architecture.md.
"""
