"""`python -m services.annotator`: serves the annotator."""

from fairloop.serving.server import main
from services.annotator.servicer import SERVICE

if __name__ == "__main__":
    main(SERVICE)
