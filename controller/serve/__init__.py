"""Ray's side of the daemon: templates into a Serve config, the dashboard's REST API, the ingress.

    dashboard.py       the dashboard's REST API; details.py reads what Serve reports
    application.py     what the dashboard reports about applications, as values of the model
    cluster.py         facts about the cluster that conditions are made of
    ingress.py         which release answers at a route
    traffic.py         how much each application is asked
    replica_logs.py    replicas' logs: followed.py follows one, log_records.py tells its records
    templates.py       the Jinja templates in force, and what is wrong with them
    rendering.py       releases into Serve applications and the whole config
    canonical.py       YAML that says the same to every reader
    outline.py         what documents have in common, checked against Ray's schema once
    schema.py          Ray's own schema; schema_process.py in a process of its own, for a daemon
    accepted.py        its answers, kept for previews

Nothing here decides anything: planning says what should be applied, these modules say what is.
"""
