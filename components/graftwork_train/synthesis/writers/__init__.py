"""Writers: who answers what the methods ask."""
