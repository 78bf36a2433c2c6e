"""May it go live? Twelve questions to a running stack; none changes it, and no answer is a promise of somebody's.

found = review(cluster.view(), Places())
[item.criterion.id for item in found if not item.is_met]
"""

from __future__ import annotations
