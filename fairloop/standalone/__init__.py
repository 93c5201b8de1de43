"""The statistics on users' own files: `fairloop evaluate` and `fairloop stats`, without the services."""
