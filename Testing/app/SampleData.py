"""Stand-in for the SampleData module: stores registered sources, and simulates clicks on their buttons."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any


class SampleDataLogic:
    """Not implemented: download. Nothing can be loaded by name: only a button calls a source's custom downloader."""

    @staticmethod
    def registerCustomSampleDataSource(
        category: str = "Custom",
        sampleName: str | None = None,
        uris: Any = None,
        fileNames: Any = None,
        nodeNames: Any = None,
        customDownloader: Any = None,
        thumbnailFileName: str | None = None,
        loadFileType: Any = "VolumeFile",
        loadFiles: Any = None,
        loadFileProperties: Any = None,
        checksums: Any = None,
    ) -> None:
        import slicer

        if not len(uris) == len(fileNames) == len(nodeNames):
            raise ValueError("All fields of sample data source must have the same length")
        if not hasattr(slicer.modules, "sampleDataSources"):
            slicer.modules.sampleDataSources = {}
        sources = slicer.modules.sampleDataSources.setdefault(category, [])
        source = SimpleNamespace(
            sampleName=sampleName,
            uris=uris,
            fileNames=fileNames,
            nodeNames=nodeNames,
            customDownloader=customDownloader,
            thumbnailFileName=thumbnailFileName,
        )
        if all(other.sampleName != sampleName for other in sources):
            sources.append(source)

    def sourceForSampleName(self, sampleName: str) -> Any:
        import slicer

        sources = [source for group in slicer.modules.sampleDataSources.values() for source in group]
        return next((source for source in sources if source.sampleName == sampleName), None)

    def downloadFromSource(self, source: Any, maximumAttemptsCount: int = 3) -> list[Any]:
        """Like Slicer: fetches the addresses, logs failures, and never calls a custom downloader."""
        for uri in source.uris:
            logging.error("Download failed: %s", uri)
        return []

    def downloadSamples(self, sampleName: str) -> list[Any]:
        """The downloaded data; nothing for an unknown name."""
        source = self.sourceForSampleName(sampleName)
        return self.downloadFromSource(source) if source else []

    @staticmethod
    def click(category: str, sampleName: str) -> Any:
        """Simulate the module's button for a source with a custom downloader."""
        import slicer

        source = next(s for s in slicer.modules.sampleDataSources[category] if s.sampleName == sampleName)
        return source.customDownloader(source)
