"""Where a model lies as safetensors, unpacked if need be; a process of its own, to keep torch out of the one that measures."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from editor_core.loading import load_model

if __name__ == "__main__":
    print(json.dumps({"folder": load_model(sys.argv[1], cache_dir=Path(sys.argv[2])).folder}))
