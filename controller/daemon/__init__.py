"""The daemon as a process.

It only makes passes and heeds who speaks to it; what to do is decided elsewhere.

    loop         pass after pass; `passes` is how the API sees them
    config_file  the configuration, and its edits
    foreground   ended and hastened by signals; `supervisor` tells systemd
    all_in_one   `wheelway up`: a head and the daemon
    heap         memory of a process that runs for months
"""
