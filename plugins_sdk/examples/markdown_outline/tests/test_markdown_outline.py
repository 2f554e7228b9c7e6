from pathlib import Path

from cadence_sdk.testing import PluginHarness, load_plugin

TEXT = """
# Bread

## Dough

```
# no heading, but code
```

## Oven
"""


async def test_the_outline_is_what_the_parser_takes_for_headings() -> None:
    harness = PluginHarness(load_plugin(Path(__file__).parents[1]))

    assert await harness.call("outline_markdown", text=TEXT) == "Bread\n  Dough\n  Oven"
    assert await harness.call("outline_markdown", text="plain") == "The text has no headings."
