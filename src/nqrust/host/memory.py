"""Programs that the kernel ends first when memory runs out: proc(5)."""

from __future__ import annotations

OOM_SCORE = "/proc/self/oom_score_adj"
DIE_FIRST = f"{{ echo 1000 >{OOM_SCORE}; }} 2>/dev/null"
"""For a shell: its programs end before any VM."""
