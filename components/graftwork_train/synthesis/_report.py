"""What methods of synthesis tell the record and the report."""

from __future__ import annotations

import math
from collections import Counter

from graftwork_train.synthesis._mixing import Mixer
from graftwork_train.synthesis.base import Desk


def entropy(counts: Counter[str]) -> float:
    """Entropy of a histogram as a share of the largest possible: 1 if all are alike, 0 if one."""
    total = counts.total()
    if len(counts) < 2 or not total:
        return 0.0
    shares = [count / total for count in counts.values() if count]
    return sum(share * math.log(1 / share) for share in shares) / math.log(len(counts))


def report_styles(desk: Desk, styles: Counter[str]) -> None:
    """`style/<style>`, shares of the pieces, and a table of them."""
    total = max(1, styles.total())
    for style, count in sorted(styles.items()):
        desk.metrics[f"style/{style}"] = count / total
    rows = [[style, count, f"{count / total:.1%}"] for style, count in styles.most_common()]
    desk.tables.append({"title": "Styles", "columns": ["style", "texts", "share"], "rows": rows})


def report_mix(desk: Desk, mixer: Mixer) -> None:
    """`synthetic_share` by tokens, `left_out/<kind>`, and a sentence."""
    desk.metrics["synthetic_share"] = mixer.share()
    for kind, name in ((True, "synthetic"), (False, "real")):
        desk.metrics[f"left_out/{name}"] = float(mixer.left_out[kind])
    desk.notes.append(
        f"Of the words and signs written, {mixer.share():.1%} are synthetic; "
        f"{mixer.left_out[True]:,} synthetic and {mixer.left_out[False]:,} real documents had no "
        f"place in the mix."
    )
