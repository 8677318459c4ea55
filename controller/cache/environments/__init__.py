"""Environments of replicas, built by uv on top of the base's interpreter.

`base` is what Ray's own interpreter has, `resolution` what is missing, `overlay` the environment
that has it, `builder` keeps them by their lock. `facts` is a script, run by that interpreter.
"""
