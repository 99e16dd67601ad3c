"""plainmq: a message queue that needs no client library.

The way of a message, which is also the order in which to read:

    web/publish, web/shortcut, tcp/session    a request or a line becomes a Draft, once it is known who sent it
    gather                                    what several publishers send in one turn goes on together
    broker                                    the face of all that is inside
    engines/memory, engines/sqlite            when a decision counts: at once, or when the disk has it
    core/core, core/log                       the decision: a place in the one log, and what has to go for it;
                                              from here on, messages that came together are one Run (core/run)
    cohorts, cohort                           to all who listen: readers that asked for the same get the same bytes
    web/sink, tcp/connection                  the socket

What else there is:

    access       whose a token is (doorkeeper), and what it may do (grant)
    core         the log, topics, groups and their leases: plain functions of the time, without I/O
    disk         the file of the engine sqlite
    frames       a message's forms on the wire
    workers      who works in groups (worker, puller), and who is handed what (crew)
    limits       shares and rates, and what may be on its way in and out
    net          sockets, certificates, what SIGHUP reads again
    telemetry    records for people and programs, and what keeps secrets out of them
    server       the only place where all parts meet
    cli, client, bench    the commands, the client behind them, and the load of `plainmq bench`

Who may import whom stands in tests/test_house.py.
"""

__version__ = "0.1.0"
