"""`python -m services.generator`: serves the generator."""

from fairloop.serving.server import main
from services.generator.servicer import SERVICE

if __name__ == "__main__":
    main(SERVICE)
