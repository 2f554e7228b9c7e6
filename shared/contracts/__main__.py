"""`python -m shared.contracts`: write the schemas anew from the structs they describe."""

from pathlib import Path

from shared.contracts.generate import CONTRACTS, generate


def main() -> None:
    for name in CONTRACTS:
        (Path(__file__).parent / name).write_text(generate(name))


if __name__ == "__main__":
    main()
