"""What `fairloop doctor` looks at: machine, software, weights, store, services. Changes nothing."""
