"""The tutorial is true: its snippets run, one after the other."""

import re
from pathlib import Path
from typing import Any

README = Path(__file__).parents[1] / "README.md"


def test_the_snippets_of_the_tutorial_run() -> None:
    snippets = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {"__name__": "readme"}

    for snippet in snippets:
        exec(snippet, names)

    assert len(snippets) == 2
    assert names["rain"].description == "How much rain is expected in a city."
