"""Tells of passes: `observer` logs each, counts it (`metrics`) and passes it on (`notifications`,
`notifiers`). None of them can fail a pass.
"""
