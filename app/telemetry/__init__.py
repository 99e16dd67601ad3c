"""What a server reports about itself: log records, the access log, counters, histograms, the lag of the event loop.

`log.log_event` writes a record. `redact` removes secrets from every record.
It knows nothing of the rest of the program.
"""
