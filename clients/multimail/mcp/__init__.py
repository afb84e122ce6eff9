"""The door for models: every job of an agent and its overseer as a tool of the Model Context Protocol.

`python -m multimail.mcp` serves over standard input and output; `multimail.mcp.http.App` is the same over HTTP.
"""
