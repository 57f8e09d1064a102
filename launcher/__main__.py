"""`python -m launcher`, and the program `launcher`."""

from __future__ import annotations

import sys

_EXTRA = {"typer", "rich", "boto3", "botocore", "hcl2", "lark"}


def main() -> None:
    """Run the command line, or say what is missing for it."""
    try:
        from launcher import cli

        cli.main()
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] in _EXTRA:
            sys.stderr.write(
                f"Error: The launcher needs {error.name}, which is not installed.\n"
                "Hint: Install the extra: pip install 'neuraknot-db[launcher]'\n"
            )
            sys.exit(20)
        raise


if __name__ == "__main__":
    main()
