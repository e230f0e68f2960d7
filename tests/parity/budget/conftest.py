import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent / "importable"))
pytest.register_assert_rewrite("adversary")
