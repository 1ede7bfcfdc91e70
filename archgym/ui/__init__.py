"""The local web application: ``archgym ui DIR`` shows runs, studies, entries of suites and datasets, and follows them live."""
