"""Who listens: subscribers, and the bytes they get.

A cohort is all subscribers that asked for the same topics in the same encoding and have reached the head of the log: a
message is encoded once for a cohort, and each member's sink gets the same bytes. It knows no protocol.
"""
