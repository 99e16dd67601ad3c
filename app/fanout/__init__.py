"""Subscribers, and the bytes that they receive.

Ask `Fanout` to subscribe and to deliver. A cohort is all subscribers with the same topic filter and the same encoder: a
message is encoded once for it, and the sink of each live subscriber gets the same bytes. It knows no protocol.
"""
