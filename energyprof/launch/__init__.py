"""`energyprof run`: run a script, a module, code or any command faithfully, and measure it."""
