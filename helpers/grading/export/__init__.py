"""What others read: every format is made from a Report and from nothing else.

One learner's Report: `junit`, `markdown`, `github`. A class's, as `results.Result`: `csvfile`,
`canvas`, `moodle`. Exporters return text; `results.save` writes what spreadsheets open.
"""
