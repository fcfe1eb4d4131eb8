"""A whole decode step in one call, where the device has one."""
