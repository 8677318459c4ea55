"""Ray's side of the daemon: templates into a Serve config, the dashboard's REST API, the ingress.

    dashboard.py     the dashboard's REST API
    application.py   what the dashboard reports about applications, as values of the model
    cluster.py       facts about the cluster that conditions are made of
    ingress.py       asks a route who answers there
    templates.py     the Jinja templates in force, and what is wrong with them
    rendering.py     releases into Serve applications and the whole config
    canonical.py     YAML that says the same to every reader
    outline.py       what documents have in common, checked against Ray's schema once
    schema.py        Ray's own schema
    schema_process.py  the same in a process of its own, for a daemon

Nothing here decides anything: planning says what should be applied, these modules say what is.
"""
