"""What a server tells about itself: log records, the access log, counters, histograms, the lag of the event loop.

Ask `log.log_event` to write a record. `redact` keeps secrets out of all of them.
It knows nothing of the rest of the program.
"""
