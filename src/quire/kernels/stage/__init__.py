"""Op `stage`: a decode step's inputs from the device rows."""
