"""Search: analyzers, stores and fusion. One file per store; names load late."""

STORES = {
    "lance": "hagane.index.lance:LanceIndex",
    "memory": "hagane.index.memory:MemoryIndex",
}
