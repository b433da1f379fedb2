"""Turn a CT series into numbers and DICOM objects; know no network and no queue.

Nothing is imported here on purpose: ``import pipeline.errors`` must stay cheap for the listening
process, which never loads torch. Public names: ``pipeline.analyze.analyze_series``,
``pipeline.weights.load_model`` and the value types of ``pipeline.types``.
"""
