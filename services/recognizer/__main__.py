"""`python -m services.recognizer`: serves the recognizer."""

from fairloop.serving.server import main
from services.recognizer.servicer import SERVICE

if __name__ == "__main__":
    main(SERVICE)
