"""`python -m services.metrics`: serves the metrics."""

from fairloop.serving.server import main
from services.metrics.servicer import SERVICE

if __name__ == "__main__":
    main(SERVICE)
