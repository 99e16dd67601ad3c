"""Several workers of one server: processes that share its ports, its log and its figures.

    Supervisor ── starts, restarts, stops ──▶ worker 1 … N: each a whole server, with one socket of each port
        ▲ └ holds all sockets: what the kernel has given to a worker that died waits for another
        └── one Channel to each: ready, leaving; accept from, stop, reload; questions and merged answers

Read `supervisor` for what the first process does, `worker` for the others, and `exchange` for how a figure that one
worker is asked for becomes that of all.
"""
