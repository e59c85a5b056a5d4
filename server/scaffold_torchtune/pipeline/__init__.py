"""The steps, composed: what the command line and the MCP server both call."""
