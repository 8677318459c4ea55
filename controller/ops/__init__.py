"""What there is to tell of the journal, as the documents of API and CLI.

The command reads the journal itself when no daemon answers, so both sides of the control socket
need the same documents. What a person orders (`orders`) is written from here too, by either side.
What may change here: what is told, and which words tell it. Keys of documents are only ever added.

    documents   the smaller documents: their types, and how each is made
    times       seconds as ISO 8601 and in a person's units
    status      what `status` tells
    names       what a name stands for
    explain     what `explain` tells; `advice` has what helps, `summaries` all names at once
    history     what `history` tells
    plans       what `plan` and `reconcile` tell
    orders      pin, unpin, roll back, suspend, resume, clear a quarantine
"""
