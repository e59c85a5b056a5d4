"""The smallest server of the SDK: one tool over stdio. What ours is measured against."""

from mcp.server import MCPServer

server = MCPServer("smallest", version="1")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


if __name__ == "__main__":
    server.run("stdio")
