"""The console: one page of HTML, CSS and ES modules, which a browser gets as they are. There is no build step.

`main.js` begins, `views/` has a module for each screen, `vendor/` what others wrote (vendor/README.md).
It knows the server by its HTTP API only. `web/api/console.py` serves it.
"""
