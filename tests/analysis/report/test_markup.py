"""Tables of the report."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

from labs.analysis.report.markup import table_html


def test_an_interval_is_in_the_cell_of_its_mean() -> None:
    table = pd.DataFrame(
        {
            "config": ["a<b", "c", "d"],
            "loss": [0.000123, 0.5, np.nan],
            "loss_low": [0.000119, np.nan, np.nan],
            "loss_high": [0.000127, np.nan, np.nan],
            "n": [3, 1, 0],
        }
    )
    rows = re.findall(r"<tr>(.*?)</tr>", table_html(table))
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in rows]
    assert cells == [
        ["config", "loss", "n"],
        ["a&lt;b", '0.000123 <span class="interval">[0.000119, 0.000127]</span>', "3"],
        ["c", "0.500", "1"],
        ["d", "", "0"],
    ]
