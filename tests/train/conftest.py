from __future__ import annotations

import pytest

from tinies import save_models


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Transformers folders of tiny random models, by architecture."""
    return save_models(tmp_path_factory.mktemp("models"))
