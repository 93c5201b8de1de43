"""What every server is made of: settings, server, interceptors, operations, training."""
