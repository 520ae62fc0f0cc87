"""Static files under names that carry a hash of their content, imports between our own scripts included."""

from __future__ import annotations

from whitenoise.storage import CompressedManifestStaticFilesStorage

__all__ = ["HashedFiles"]


class HashedFiles(CompressedManifestStaticFilesStorage):
    """Rewrites ``import … from "./other.js"`` in our scripts too, so none meets an older version of another one."""

    support_js_module_import_aggregation = True
    # Ours only: scripts of libraries mention imports that they do not ship.
    _js_module_import_aggregation_patterns = (
        "tradebot/*.js",
        CompressedManifestStaticFilesStorage._js_module_import_aggregation_patterns[1],
    )
