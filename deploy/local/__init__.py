"""The real stack on one machine: store, four services, Prefect and the loop's deployment.

`python -m deploy.local up | down | status`, which `make up`, `make down` and
`make demo` call.
"""
