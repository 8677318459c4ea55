"""The documents of API and CLI, made from the journal, and the orders of operators.

Both sides of the control socket need them, for the command reads the journal itself when no daemon
answers, and writes orders into it. Keys of documents are only ever added.

    documents   the smaller documents: their types, and how each is made
    times       seconds as ISO 8601 and in a person's units
    status      what `status` tells
    names       what a name stands for
    listed      which wheels are a release's own
    explain     what `explain` tells, of one name or of all; `advice` has what helps
    history     what `history` tells
    plans       what `plan` and `reconcile` tell
    orders      pin, unpin, roll back, suspend, resume, clear a quarantine
    weights     what is told of weights, and the same orders about them
"""
