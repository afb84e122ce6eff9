"""`python -m multimail.mcp`: the tools over standard input and output."""

from multimail.mcp.stdio import main

if __name__ == "__main__":
    main()
