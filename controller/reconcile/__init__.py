"""One pass: observe, elect, plan, apply, record; and the slow work beside it.

A pass can be cut off anywhere: the next one, of this process or another, observes again.

    reconciler   the pass; `report` is what it tells
    observer     what runs on the cluster and answers at the ingress
    artifacts    what is listed, verified and built; `listings`, `inventory`, `refusals`,
                 `survivors` and `upkeep` are parts of that, `jobs` the threads
    desired      what should run
    preflight    whether Ray's side fits
    applier      the PUT
    recorder     into the journal; `holdover` is what the daemon before left there
    assembly     all of it put together, from `parts`
"""
