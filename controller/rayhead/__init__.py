"""A Ray head of one's own.

`head` starts, owns and ends one, `ports` chooses its ports, `haproxy` bounds its ingress,
`subreaper` is the script that owns its processes, `service` runs one under systemd.
"""
