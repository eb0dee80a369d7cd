"""`python -m app.cli` is `footnote`."""

from app.cli import main

main()
