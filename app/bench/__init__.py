"""`plainmq bench`: publishers and subscribers that load a server and time it.

Ask `command` for a whole run. The load comes from processes of its own, so that it does not compete with itself.
It knows a server by its wire protocols alone.
"""
