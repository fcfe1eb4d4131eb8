"""Op: a run of decoder layers in one call. Without it the decoder calls them one by one."""
