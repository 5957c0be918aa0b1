"""What a result says of the machine that it was measured on."""

import os
import platform
from datetime import UTC, datetime
from typing import Any


def machine() -> dict[str, Any]:
    """Return the day, the cores that this process may use, the kind of processor, and the Python."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }


def load() -> dict[str, float]:
    """Return the load average of the last 15 minutes."""
    return {"load average": round(os.getloadavg()[-1], 1)}
