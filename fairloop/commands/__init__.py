"""Commands for whoever runs the servers: `fairloop operations` and `fairloop doctor`."""
