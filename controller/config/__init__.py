"""The configuration: TOML and environment in, validated values out; unknown keys are refused.

`settings` is the whole; `sources`, `serve`, `api` and `telemetry` are its sections, `values` and
`requirements` the types of their keys. `loading` reads a file and says what is wrong with it,
`credentials` finds what the service manager hands over.
"""
