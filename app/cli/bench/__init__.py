"""`plainmq bench`: publishers and subscribers that load a server and measure it.

`command` runs the workloads. The load comes from processes of its own, so that it does not compete with this one.
It knows a server by its wire protocols alone.
"""
