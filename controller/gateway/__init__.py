"""HAProxy in front of Ray's ingress: its configuration, its routing table, its process.

Nothing of the daemon is in the path of a request: HAProxy goes on with the table that it has.
"""
