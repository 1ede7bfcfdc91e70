"""Let others drive: sessions of ask and evaluate over HTTP with JSON, and as an MCP server for language models.

| module | what it holds |
| --- | --- |
| ``schemas`` | requests and answers; they check what comes in and describe the interface |
| ``sessions`` | sessions on disk: each a run's shard, with a journal of its requests |
| ``entry`` | sessions that are the runs of an entry to a suite |
| ``service`` | sessions for many callers at once: limits, threads, time |
| ``http`` | the HTTP interface and its OpenAPI description |
| ``tools`` | the MCP server |
| ``cli`` | ``archgym serve`` |
"""
