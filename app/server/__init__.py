"""Where all parts meet: what is built from the settings, and how it runs and stops.

Read `build` for what a server consists of, `run` for its life, and `uvicorn_server` for how uvicorn stops.
It is the only folder that knows all others.
"""
