"""Decisions, and nothing else: pure functions from what is known to what should be.

Clock and randomness are parameters; there is no I/O. Read `rollout` first.

    election    a verdict on every release: by `policy`, `ownership` of names, `disappearance`
    catalogue   what the sources list and offer, by project; `wheel_names` reads file names
    rollout     from verdicts and what is observed (`situation`, `health`) to a `plan`, by route:
                `staging`, `promotion`, `suspension`, `disappearance`; `changes` makes it one config
    bindings    which slots public paths lead to, by a plan; `paths` spells them
    planner     from pass to pass: the same plan while nothing changes, and when the next is due
    contest     why a config is not sent for now; `daemons` has the mark of whose it is
    phases      how far each release has come
    compatibility
                whether clients of a version may be sent to another, by the schemas of both
                (`subschemas`, `schema_keywords`); nothing asks it yet
    progressive which share of requests a new version gets, by `traffic`; nothing asks it yet
    dates       from when each deadline counts; `probing` says which routes to ask at
"""
