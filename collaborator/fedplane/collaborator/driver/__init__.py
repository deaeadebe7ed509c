"""The driver: runs the app's own server for runs by the strategy `app`, and has what it asks become rounds."""
