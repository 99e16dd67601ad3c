"""The console in Chromium, against servers that are started as users start them."""
